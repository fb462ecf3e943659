use super::text;
use crate::loader::tests::{SITE, linux, plan};
use crate::loader::{Plan, Shown, Task};

#[test]
fn a_kernel_is_booted_at_once_and_what_fails_is_tried_again() {
    let plan = plan(&[("lab", linux("/lab/a#b", &["lab/a", "http://192.0.2.1/b"], "quiet ip=dhcp"))]);
    assert_eq!(
        text(&plan, SITE),
        "#!ipxe\n# Made by netboot. A file tftp/boot.ipxe takes its place.\n\
         isset ${ip} || dhcp || goto netboot-failed\n\
         kernel http://192.168.90.2:8080/tftp/lab/a%23b initrd=initrd0 initrd=initrd1 quiet ip=dhcp || goto netboot-failed\n\
         initrd --name initrd0 http://192.168.90.2:8080/tftp/lab/a || goto netboot-failed\n\
         initrd --name initrd1 http://192.0.2.1/b || goto netboot-failed\n\
         boot || goto netboot-failed\n\
         :netboot-failed\n\
         echo netboot: trying again in 10 seconds\n\
         imgfree ||\n\
         sleep 10 ||\n\
         chain --replace --autofree http://192.168.90.2:8080/ipxe || goto netboot-failed\n"
    );
}

#[test]
fn each_task_has_its_lines() {
    let table = [
        (linux("k", &[], ""), "\nkernel http://192.168.90.2:8080/tftp/k || goto netboot-failed\nboot || "),
        (linux("k", &[], "a=#; ; b || shell && #x c"), "/tftp/k a=#; b shell c || goto netboot-failed\n"),
        (
            Task::LocalDisk,
            "\niseq ${platform} pcbios && sanboot --no-describe --drive 0x80 ||\nexit 1\n:netboot-failed\n",
        ),
        (
            Task::Chain("m/menu.ipxe".into()),
            "\nchain --autofree http://192.168.90.2:8080/tftp/m/menu.ipxe || goto netboot-failed\nexit\n",
        ),
        (
            Task::Chain("https://boot.example/${mac}".into()),
            "\nchain --autofree https://boot.example/${mac} || ",
        ),
        (
            Task::Script(vec!["#!ipxe".into(), "echo hello".into(), "shell".into()]),
            "|| goto netboot-failed\necho hello\nshell\n:netboot-failed\n",
        ),
        (Task::Wait("no ${x} || y".into()), "\necho netboot: no $ {x} | | y\n:netboot-failed\n"),
    ];
    for (task, expected) in table {
        let text = text(&plan(&[("x", task.clone())]), SITE);
        assert!(text.contains(expected), "{task:?}:\n{text}");
    }
}

#[test]
fn a_menu_takes_the_first() {
    let menu = Some(Shown { title: "Lab".into(), timeout_secs: 5 });
    let mut plan = Plan { menu, ..plan(&[("disk", Task::LocalDisk), ("new", linux("k", &[], ""))]) };
    let lab = text(&plan, SITE);
    assert!(
        lab.contains(
            "\nmenu Lab || goto netboot-disk\nitem disk disk\nitem new new\n\
             choose --default disk --timeout 5000 chosen || goto netboot-failed\ngoto netboot-${chosen}\n:netboot-disk\niseq "
        ),
        "{lab}"
    );
    assert!(lab.contains("exit 1\ngoto netboot-failed\n:netboot-new\nkernel "), "{lab}");
    plan.menu = Some(Shown { title: "Lab".into(), timeout_secs: 0 });
    assert!(text(&plan, SITE).contains("choose --default disk chosen || "), "it waits where it is to wait");
}
