use super::text;
use crate::loader::tests::{linux, plan};
use crate::loader::{Plan, Programs, Shown, Task};

#[test]
fn a_kernel_is_booted_at_once_and_what_fails_is_tried_again() {
    let plan = plan(&[("lab", linux("/lab/vmlinuz-5.0", &["lab/a", "/b"], "quiet ip=dhcp"))]);
    assert_eq!(
        text(&plan, "pxelinux.cfg/01-52-54-00-12-34-56"),
        "# Made by netboot. A file tftp/pxelinux.cfg/01-52-54-00-12-34-56 takes its place.\n\
         DEFAULT lab\nPROMPT 0\nTIMEOUT 100\nONTIMEOUT netboot-again\n\n\
         LABEL lab\n  LINUX lab/vmlinuz-5.0\n  APPEND initrd=lab/a,b quiet ip=dhcp\n\n\
         LABEL netboot-again\n  CONFIG pxelinux.cfg/01-52-54-00-12-34-56\n"
    );
}

#[test]
fn each_task_has_its_lines() {
    let ipxe = Programs { ipxe_bios: Some("undionly.kpxe"), ..Programs::default() };
    let none = Programs::default();
    let table = [
        (linux("k", &[], ""), none, "LABEL x\n  LINUX k\n\n"),
        (linux("k", &["i"], ""), none, "LABEL x\n  LINUX k\n  APPEND initrd=i\n\n"),
        (linux("k", &[], "a b"), none, "LABEL x\n  LINUX k\n  APPEND a b\n\n"),
        (Task::LocalDisk, none, "LABEL x\n  LOCALBOOT 0\n\n"),
        (Task::Chain("/other/pxelinux.0".into()), none, "LABEL x\n  PXE other/pxelinux.0\n\n"),
        (Task::Chain("http://192.0.2.1/x".into()), ipxe, "LABEL x\n  PXE undionly.kpxe\n\n"),
        (Task::Script(vec![]), ipxe, "LABEL x\n  PXE undionly.kpxe\n\n"),
        (Task::Chain("menu.ipxe".into()), ipxe, "LABEL x\n  PXE undionly.kpxe\n\n"),
        (
            Task::Script(vec![]),
            none,
            "PROMPT 1\nTIMEOUT 100\nSAY netboot: the profile x needs iPXE: put undionly.kpxe into tftp/\n\n\
             LABEL x\n  CONFIG pxelinux.cfg/x\n\n",
        ),
        (
            Task::Wait("kernel k is not in tftp/".into()),
            none,
            "DEFAULT x\nPROMPT 1\nTIMEOUT 100\nSAY netboot: kernel k is not in tftp/\n\nLABEL x\n  CONFIG pxelinux.cfg/x\n\n",
        ),
    ];
    for (task, programs, expected) in table {
        let plan = Plan { programs, ..plan(&[("x", task.clone())]) };
        let text = text(&plan, "pxelinux.cfg/x");
        assert!(text.contains(expected), "{task:?}:\n{text}");
    }
}

#[test]
fn a_menu_waits_for_somebody_and_takes_the_first() {
    let menu = Shown { title: "Lab".into(), timeout_secs: 5 };
    let entries =
        [("disk", Task::LocalDisk), ("new", linux("k", &[], "")), ("gone", Task::Wait("no".into()))];
    let plan = Plan { menu: Some(menu), ..plan(&entries) };
    let shown = text(&plan, "pxelinux.cfg/default");
    let head = "DEFAULT disk\nPROMPT 1\nTIMEOUT 50\nSAY Lab\nSAY   disk\nSAY   new\nSAY   gone\nSAY netboot: no\n\nLABEL disk\n";
    assert!(shown.contains(head), "{shown}");
    let mut plan = Plan { programs: Programs { menu: true, ..plan.programs }, ..plan };
    let graphic = text(&plan, "pxelinux.cfg/default");
    assert!(graphic.contains("TIMEOUT 50\nUI menu.c32\nMENU TITLE Lab\nSAY netboot: no\n"), "{graphic}");
    for (secs, tenths) in [(0, 0), (3600, 35_996)] {
        plan.menu = Some(Shown { title: String::new(), timeout_secs: secs });
        assert!(text(&plan, "x").contains(&format!("TIMEOUT {tenths}\n")));
    }
}
