use super::text;
use crate::loader::tests::{SITE, linux, plan};
use crate::loader::{Plan, Programs, Road, Shown, Task};

#[test]
fn a_kernel_is_booted_at_once_and_what_fails_is_tried_again() {
    let plan = plan(&[("lab", linux("/lab/k", &["lab/a", "b"], "quiet ds=nocloud;s=http://x/"))]);
    assert_eq!(
        text(&plan, "grub/grub.cfg", SITE, Road::Tftp),
        "# Made by netboot. A file tftp/grub/grub.cfg takes its place.\n\
         if linux (tftp,192.168.90.2)/lab/k quiet 'ds=nocloud;s=http://x/'; then\n  \
           if initrd (tftp,192.168.90.2)/lab/a (tftp,192.168.90.2)/b; then boot; fi\n\
         fi\n\
         echo 'netboot: trying again in 10 seconds'\n\
         sleep 10\n\
         if [ \"$netboot_again\" != y ]; then\n  \
           set netboot_again=y\n  \
           while true; do\n    \
             if source (tftp,192.168.90.2)/grub/grub.cfg; then true; else sleep 10; fi\n  \
           done\n\
         fi\n"
    );
    let http = text(&plan, "grub.cfg", SITE, Road::Http);
    for part in
        ["if linux (http,192.168.90.2:8080)/tftp/lab/k ", "source (http,192.168.90.2:8080)/tftp/grub.cfg;"]
    {
        assert!(http.contains(part), "{http}");
    }
}

#[test]
fn each_task_has_its_lines() {
    let ipxe = Programs { ipxe_efi: Some("snponly.efi"), ..Programs::default() };
    let none = Programs::default();
    let table = [
        (linux("k", &[], ""), none, "if linux (tftp,192.168.90.2)/k; then boot; fi\n"),
        (linux("k", &[], "a=$x b='c' d"), none, r"/k 'a=$x' 'b='\''c'\''' d; then"),
        (linux("http://192.0.2.1/a/k", &[], ""), none, "if linux (http,192.0.2.1)/a/k; then"),
        (linux("a{b", &[], ""), none, "if linux '(tftp,192.168.90.2)/a{b'; then"),
        (Task::LocalDisk, none, "exit 1\n"),
        (Task::Chain("/x/y.efi".into()), none, "if chainloader (tftp,192.168.90.2)/x/y.efi; then boot; fi\n"),
        (
            Task::Chain("http://192.0.2.1/x".into()),
            ipxe,
            "if chainloader (tftp,192.168.90.2)/snponly.efi; then",
        ),
        (Task::Script(vec![]), ipxe, "if chainloader (tftp,192.168.90.2)/snponly.efi; then boot; fi\n"),
        (
            Task::Script(vec![]),
            none,
            "echo 'netboot: the profile x needs iPXE: put snponly.efi into tftp/'\n",
        ),
        (Task::Wait("it's not there".into()), none, r"echo 'netboot: it'\''s not there'"),
    ];
    for (task, programs, expected) in table {
        let plan = Plan { programs, ..plan(&[("x", task.clone())]) };
        let text = text(&plan, "grub.cfg", SITE, Road::Tftp);
        assert!(text.contains(expected), "{task:?}:\n{text}");
    }
}

#[test]
fn a_menu_takes_the_first_and_does_not_wait_for_ever() {
    let menu = Some(Shown { title: "Lab".into(), timeout_secs: 5 });
    let mut plan = Plan { menu, ..plan(&[("disk", Task::LocalDisk), ("new", linux("k", &[], ""))]) };
    assert_eq!(
        text(&plan, "grub.cfg", SITE, Road::Tftp),
        "# Made by netboot. A file tftp/grub.cfg takes its place.\n\
         # Lab\nset default=0\nset timeout=5\n\
         menuentry disk {\n  exit 1\n  echo 'netboot: trying again in 10 seconds'\n  sleep 10\n  reboot\n}\n\
         menuentry new {\n  if linux (tftp,192.168.90.2)/k; then boot; fi\n  \
           echo 'netboot: trying again in 10 seconds'\n  sleep 10\n  reboot\n}\n"
    );
    plan.menu = Some(Shown { title: String::new(), timeout_secs: 0 });
    assert!(
        text(&plan, "grub.cfg", SITE, Road::Tftp).contains("set timeout=-1\n"),
        "it waits where it is to wait"
    );
}
