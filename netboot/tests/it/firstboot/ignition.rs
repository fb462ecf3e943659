//! `/ignition`.

use super::{OPERATOR, Rig, STRANGER};

#[tokio::test(flavor = "multi_thread")]
async fn ignition_is_whole_and_right_or_refused_with_the_reason() {
    let rig = Rig::start(&[
        ("ignition.json.j2", "{\"ignition\": {\"version\": \"3.4.0\"},\n \"x\": {{ who | tojson }}}\n"),
        ("b12.ign", "{\"ignition\": {\"version\": \"3.3.0\"}, \"x\": \"$hostname\"}\n"),
    ])
    .await;
    let own = rig.curl("127.0.0.1", "/ignition", &[]).await;
    assert_eq!((own.status, own.content_type.as_str()), (200, "application/vnd.coreos.ignition+json"));
    assert_eq!(own.text, "{\"ignition\": {\"version\": \"3.4.0\"},\n \"x\": \"host\"}\n");
    for (from, path) in [("127.0.0.12", "/ignition"), (OPERATOR, "/ignition?override_ipv4=127.0.0.12")] {
        assert!(rig.get(from, path).await.1.ends_with("\"x\": \"b12\"}\n"));
    }
    assert_eq!(rig.get(STRANGER, "/ignition").await.0, 404);

    let deep = format!("{{\"a\": {}", "[".repeat(100_000));
    let table = [
        (
            "variant: fcos\nversion: 1.5.0\n",
            500,
            "this is not JSON; a Butane configuration (YAML) is translated first: butane --strict",
        ),
        (
            "{\"ignition\": {\"version\": \"3.4.0\"},\n\"x\": }",
            500,
            "template b12.ign, line 2 of the text: not JSON",
        ),
        ("{\"ignition\": {}}", 500, "`ignition.version` is missing"),
        (deep.as_str(), 500, "recursion limit exceeded"),
    ];
    for (template, status, part) in table {
        rig.put("b12.ign", template);
        let got = rig.curl("127.0.0.12", "/ignition", &[]).await;
        assert_eq!((got.status, got.content_type.as_str()), (status, "text/plain; charset=utf-8"));
        assert!(got.text.contains(part) && got.text.lines().count() == 2, "{}", got.text);
    }
    std::fs::remove_file(rig.dir.path().join("b12.ign")).unwrap();
    assert_eq!(
        rig.get("127.0.0.12", "/ignition").await,
        (404, "#cloud-config\n# template b12.ign is missing in the data directory\n".to_owned())
    );
}
