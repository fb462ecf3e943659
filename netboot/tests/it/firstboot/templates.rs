//! Templates of both kinds, by all roads, right and wrong.

use std::time::{Duration, Instant};

use super::{OPERATOR, Rig, STRANGER};

#[tokio::test(flavor = "multi_thread")]
async fn a_jinja_template_knows_all_of_the_machine() {
    let template = "#cloud-config\n{% include 'parts/head.j2' %}\nx: {{ hostname }} {{ mac }} {{ addr }} {{ channel }} {{ private_ipv4 }} {{ fqdn }}\ny: {{ who }} {{ common.who }} {{ vars.dns }} {{ vars['who'] }}\nz: http://{{ server }}:{{ http_port }}/\nkept: $hostname {{ '{{' }} {{ '<&>' }}\n{% for name in vars | sort %}{{ name }} {% endfor %}\n";
    let rig = Rig::start(&[
        ("default.yaml.j2", template),
        ("parts/head.j2", "# for {{ hostname | upper }}\n"),
        ("own.yaml", "#cloud-config\nplain: $hostname {{ hostname }}\n"),
    ])
    .await;
    let expected = "#cloud-config\n# for B1\nx: b1 52:54:00:00:00:01 127.0.0.1 stable 127.0.0.1 b1.example\ny: host common 10.9.0.53 host\nz: http://10.9.0.1:8080/\nkept: $hostname {{ <&>\ndns fqdn hostname private_ipv4 who ";
    assert_eq!(rig.get("127.0.0.1", "/").await, (200, expected.to_owned()));
    assert_eq!(
        rig.get("127.0.0.12", "/").await,
        (200, "#cloud-config\nplain: b12 {{ hostname }}\n".to_owned()),
        "by its name it is no Jinja"
    );
    // Plain text beats Jinja of the same name.
    rig.put("default.yaml", "#cloud-config\nplain: $who\n");
    assert_eq!(rig.get("127.0.0.1", "/").await.1, "#cloud-config\nplain: host\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_in_a_template_is_a_500_that_names_the_line_and_never_half_a_text() {
    let rig = Rig::start(&[("parts/bad.j2", "fine\n{{ nobody }}\n"), ("secrets/pw", "x")]).await;
    let table = [
        (
            "#cloud-config\nhostname: {{ hostname }}\nx: {{ nobody }}\n",
            "template default.yaml.j2, line 3: `nobody` is undefined",
        ),
        (
            "#cloud-config\n{% if hostname %}\n",
            "template default.yaml.j2, line 2: syntax: unexpected end of input",
        ),
        ("a: 1\n{% include 'parts/bad.j2' %}", "template parts/bad.j2, line 2: `nobody` is undefined"),
        ("{% include 'secrets/pw' %}", "template default.yaml.j2, line 1: `secrets/pw` is no template"),
        (
            "{% include 'parts/../secrets/pw' %}",
            "template default.yaml.j2, line 1: `parts/../secrets/pw` is no",
        ),
        ("{% include '/etc/passwd' %}", "template default.yaml.j2, line 1: `/etc/passwd` is no template"),
        (
            "{% for a in range(3000) %}{% for b in range(3000) %}x{% endfor %}{% endfor %}",
            "template default.yaml.j2, line 1: it does not come to an end",
        ),
    ];
    for (template, why) in table {
        rig.put("default.yaml.j2", template);
        let got = rig.curl("127.0.0.1", "/", &[]).await;
        assert_eq!((got.status, got.content_type.as_str()), (500, "text/plain; charset=utf-8"), "{template}");
        assert!(got.text.starts_with(&format!("#cloud-config\n# {why}")), "{template}\n{}", got.text);
        assert_eq!(got.text.lines().count(), 2, "{}", got.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_a_template_counts_at_the_next_request() {
    let rig = Rig::start(&[("default.yaml", "#cloud-config\na: 0\n"), ("templates/x.j2", "0")]).await;
    for round in 1..=5 {
        let written = Instant::now();
        rig.put("default.yaml", &format!("#cloud-config\na: {round}\n"));
        rig.put("templates/x.j2", &format!("{{{{ hostname }}}} {round}"));
        let own = crate::http::get(&netboot::http::app(rig.state.clone()), "127.0.0.1", "/").await;
        let took = written.elapsed();
        assert_eq!(own.text(), format!("#cloud-config\na: {round}\n"));
        assert!(took < Duration::from_millis(100), "{took:?}");
        assert_eq!(rig.get("127.0.0.1", "/t/x").await.1, format!("b1 {round}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_template_has_a_name_and_nothing_else_of_the_data_directory_has() {
    let rig = Rig::start(&[
        ("templates/preseed.cfg.j2", "d-i netcfg/get_hostname string {{ hostname }}\n"),
        ("templates/ks/base.cfg", "network --hostname=$hostname\n"),
        ("templates/.hidden", "hidden"),
        ("default.yaml", "#cloud-config\n"),
        ("tftp/pxelinux.0", "loader"),
        ("secrets/pw", "told"),
    ])
    .await;
    std::os::unix::fs::symlink("/etc/passwd", rig.dir.path().join("templates/passwd")).unwrap();
    std::os::unix::fs::symlink("ks/base.cfg", rig.dir.path().join("templates/link")).unwrap();
    let preseed = rig.curl("127.0.0.1", "/t/preseed.cfg", &[]).await;
    assert_eq!((preseed.status, preseed.content_type.as_str()), (200, "text/plain; charset=utf-8"));
    assert_eq!(preseed.text, "d-i netcfg/get_hostname string b1\n");
    let table = [
        ("127.0.0.12", "/t/preseed.cfg.j2", 200, "string b12\n"),
        ("127.0.0.12", "/t/ks/base.cfg", 200, "network --hostname=b12\n"),
        ("127.0.0.12", "/t/link", 200, "network --hostname=b12\n"),
        (OPERATOR, "/t/ks/base.cfg?override_ipv4=127.0.0.12", 200, "network --hostname=b12\n"),
        (OPERATOR, "/t/ks/base.cfg?mac=52-54-00-00-00-12", 200, "network --hostname=b12\n"),
        ("127.0.0.1", "/t/ks/base.cfg?mac=52:54:00:00:00:01", 200, "network --hostname=b1\n"),
        ("127.0.0.1", "/t/ks/base.cfg?mac=52:54:00:00:00:12", 200, "network --hostname=b1\n"),
        (
            OPERATOR,
            "/t/ks/base.cfg?uuid=4c4c4544-0042-3510-8058-B9C04F4A3333",
            200,
            "network --hostname=b12\n",
        ),
        (
            "127.0.0.12",
            "/t/ks/base.cfg?uuid=4c4c4544-0042-3510-8058-b9c04f4a3333",
            200,
            "network --hostname=b12\n",
        ),
        (
            "127.0.0.1",
            "/t/ks/base.cfg?uuid=4c4c4544-0042-3510-8058-b9c04f4a3333",
            200,
            "network --hostname=b1\n",
        ),
        (
            OPERATOR,
            "/t/ks/base.cfg?uuid=4c4c4544-0042-3510-8058-b9c04f4a3334",
            404,
            "no configuration for 4c4c4544",
        ),
        (OPERATOR, "/t/ks/base.cfg?serial=cz%2012%20", 200, "network --hostname=b12\n"),
        ("127.0.0.12", "/t/ks/base.cfg?serial=CZ+12", 200, "network --hostname=b12\n"),
        ("127.0.0.1", "/t/ks/base.cfg?serial=CZ+12", 200, "network --hostname=b1\n"),
        (OPERATOR, "/t/ks/base.cfg?serial=CZ", 404, "no configuration for CZ"),
        (OPERATOR, "/t/ks/base.cfg?mac=52:54:00:00:00:99", 404, "no configuration for 52:54:00:00:00:99"),
        (STRANGER, "/t/preseed.cfg", 404, "no configuration for 127.0.0.99; add this address"),
        ("127.0.0.1", "/t/none", 404, "template templates/none is missing"),
        ("127.0.0.1", "/t/ks", 500, "template templates/ks in the data directory cannot be read"),
        ("127.0.0.1", "/t/passwd", 500, "template templates/passwd in the data directory cannot be read"),
        ("127.0.0.1", "/t/.hidden", 403, "no name of a template"),
        ("127.0.0.1", "/t/../default.yaml", 403, "no name"),
        ("127.0.0.1", "/t/%2e%2e/default.yaml", 403, "no name"),
        ("127.0.0.1", "/t/..%2fsecrets%2fpw", 403, "no name"),
        ("127.0.0.1", "/t/ks/../../secrets/pw", 403, "no name"),
        ("127.0.0.1", "/t//etc/passwd", 403, "no name"),
        ("127.0.0.1", "/t/ks%00/base.cfg", 403, "no name"),
    ];
    for (from, path, status, part) in table {
        let (found, text) = rig.get(from, path).await;
        assert_eq!(found, status, "{from} {path}: {text}");
        assert!(text.contains(part), "{from} {path}: {text}");
        assert!(!text.contains("told") && !text.contains("root:"), "{path}: {text}");
    }
}
