//! `/nocloud/…`, by curl and by cloud-init's own data source.

use std::process::Command;

use xtask::packages::CLOUD_INIT;

use super::{OPERATOR, Rig, STRANGER};

#[tokio::test(flavor = "multi_thread")]
async fn nocloud_has_what_cloud_init_reads_for_the_machine_itself() {
    let rig = Rig::start(&[
        ("default.yaml", "#cloud-config\nhostname: $hostname\n"),
        ("own.yaml.j2", "#cloud-config\nown: {{ hostname }}\n"),
    ])
    .await;
    let own = "#cloud-config\nhostname: b1\n";
    let meta = "instance-id: netboot-525400000001\nlocal-hostname: b1\n";
    let nothing = "#cloud-config\n# this is not the path of this machine\n";
    let table = [
        ("127.0.0.1", "/nocloud/user-data", 200, own),
        ("127.0.0.1", "/nocloud/meta-data", 200, meta),
        ("127.0.0.1", "/nocloud/vendor-data", 200, ""),
        (
            "127.0.0.1",
            "/nocloud/network-config",
            404,
            "#cloud-config\n# template network-config.yaml is missing in the data directory\n",
        ),
        ("127.0.0.12", "/nocloud/user-data", 200, "#cloud-config\nown: b12\n"),
        ("127.0.0.12", "/nocloud/meta-data", 200, "instance-id: netboot-525400000012\nlocal-hostname: b12\n"),
        ("127.0.0.1", "/nocloud/52:54:00:00:00:01/user-data", 200, own),
        ("127.0.0.1", "/nocloud/52-54-00-00-00-01/meta-data", 200, meta),
        ("127.0.0.12", "/nocloud/52:54:00:00:00:01/user-data", 404, nothing),
        ("127.0.0.12", "/nocloud/52:54:00:00:00:01/meta-data", 404, nothing),
        ("127.0.0.12", "/nocloud/x/user-data", 404, nothing),
        (OPERATOR, "/nocloud/52:54:00:00:00:01/user-data", 200, own),
        (OPERATOR, "/nocloud/user-data?override_ipv4=127.0.0.1", 200, own),
    ];
    for (from, path, status, text) in table {
        assert_eq!(rig.get(from, path).await, (status, text.to_owned()), "{from} {path}");
    }
    for path in ["/nocloud/user-data", "/nocloud/meta-data", "/nocloud/52:54:00:00:00:01/user-data"] {
        let (status, text) = rig.get(STRANGER, path).await;
        assert_eq!(status, 404, "{path}");
        assert!(text.starts_with("#cloud-config\n# no configuration for 127.0.0.99; add this"), "{text}");
    }
    assert_eq!(rig.get("127.0.0.1", "/nocloud/password").await.0, 404);
    rig.put("vendor-data.yaml.j2", "#cloud-config\nvendor: {{ hostname }}\n");
    rig.put("network-config.yaml", "version: 2\n# $hostname\n");
    assert_eq!(rig.get("127.0.0.1", "/nocloud/vendor-data").await.1, "#cloud-config\nvendor: b1\n");
    assert_eq!(rig.get("127.0.0.1", "/nocloud/network-config").await.1, "version: 2\n# b1\n");
    assert!(rig.state.timeline.counters()["http"]["nocloud"] > 10);
}

/// Reads as cloud-init does at boot, and prints what it made of it.
const READ: &str = r#"
import json, sys
from cloudinit import helpers, url_helper, util
from cloudinit.sources.DataSourceNoCloud import DataSourceNoCloudNet
paths = helpers.Paths({"cloud_dir": sys.argv[2], "run_dir": sys.argv[2], "templates_dir": sys.argv[2]})
source = DataSourceNoCloudNet({"datasource": {"NoCloud": {"seedfrom": sys.argv[1], "fs_label": None}}}, None, paths)
found = source.get_data()
home = {"instance_id": source.get_instance_id(), "pub_key_rsa": "ssh-rsa AAAA+/= root@b1\n", "fqdn": "N/A"}
print(json.dumps({
    "found": found,
    "id": source.get_instance_id(),
    "name": source.metadata.get("local-hostname"),
    "user": util.load_yaml(source.get_userdata_raw()),
    "parts": [part.get_content_type() for part in source.get_userdata().walk()],
    "home": url_helper.read_file_or_url(sys.argv[3], data=home, retries=0, sec_between=0).code,
    "vendor": util.decode_binary(source.get_vendordata_raw() or ""),
}))
"#;

#[tokio::test(flavor = "multi_thread")]
async fn cloud_init_takes_the_server_for_its_data_source() {
    let rig = Rig::start(&[(
        "default.yaml.j2",
        "#cloud-config\nhostname: {{ hostname }}\nwrite_files:\n  {% for name in ['a', 'b'] %}\n  - path: /etc/{{ name }}\n    content: {{ fqdn | tojson }}\n  {% endfor %}\n",
    )])
    .await;
    let modules = CLOUD_INIT.file("usr/lib/python3/dist-packages").unwrap();
    let work = tempfile::tempdir().unwrap();
    let mut python = Command::new("/usr/bin/python3");
    python.env("PYTHONPATH", modules).arg("-c").arg(READ);
    python.arg(format!("http://{}/nocloud/", rig.addr)).arg(work.path());
    python.arg(format!("http://{}/phone_home/netboot-525400000001/", rig.addr));
    let output = tokio::task::spawn_blocking(move || python.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let read: serde_json::Value = serde_json::from_str(said.trim())
        .unwrap_or_else(|_| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)));
    let expected = serde_json::json!({
        "found": true,
        "id": "netboot-525400000001",
        "name": "b1",
        "user": { "hostname": "b1", "write_files": [
            { "path": "/etc/a", "content": "b1.example" },
            { "path": "/etc/b", "content": "b1.example" },
        ] },
        "parts": ["multipart/mixed", "text/cloud-config"],
        "home": 204,
        "vendor": "",
    });
    assert_eq!(read, expected);
    assert_eq!(rig.state.timeline.counters()["http"]["booted"], 1);
}
