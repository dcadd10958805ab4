//! What an author does first, command by command as `docs/policies.md` has it:
//! start a policy, edit one function, build, drop the file, see it act.

use std::path::Path;

use weir_client::Message;
use weir_guests::{target_folder, toolchain};
use weir_tests::{TestBroker, soon};
use weir_toolchain::{Role, build, new_policy};

/// Most commands from nothing to a policy at work.
const COMMANDS_MAX: usize = 10;
/// The line of `route` that the author changes, and what it becomes.
const EDIT: (&str, &str) = ("to.send(message.subject());", "to.send(\"edited\");");

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

#[test]
fn the_page_promises_fewer_than_ten_commands() {
    let page = std::fs::read_to_string(root().join("docs/policies.md")).unwrap();
    let first = page.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let commands: Vec<&str> = first.lines().filter(|line| !line.trim().is_empty()).collect();
    assert!((4..COMMANDS_MAX).contains(&commands.len()), "{commands:#?}");
    for step in ["weir policy new", "src/lib.rs", "weir policy build", "/plugins/", "weir pub"] {
        assert!(commands.iter().any(|command| command.contains(step)), "{step}: {commands:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_policy_acts_once_its_file_is_dropped() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    let mut heard = client.subscribe(">").await.unwrap();
    let mut target_of = async |subject| {
        let receipt = client.publish_confirmed(&[Message::new(subject)]).await.unwrap();
        assert_eq!(receipt.refusals, []);
        let delivery = soon("a message", heard.next()).await.unwrap().unwrap();
        delivery.subject().to_owned()
    };
    assert_eq!(target_of("mail").await, "mail");

    let project = broker.scratch().join("my-router");
    let built = {
        let project = project.clone();
        tokio::task::spawn_blocking(move || {
            new_policy("my-router", Role::Router, &project).unwrap();
            let source = project.join("src/lib.rs");
            let text = std::fs::read_to_string(&source).unwrap();
            assert_eq!(text.matches(EDIT.0).count(), 1, "one place to edit");
            std::fs::write(&source, text.replace(EDIT.0, EDIT.1)).unwrap();
            // Not in the project's own folder, where the first build takes minutes.
            build(&project, toolchain().unwrap(), &target_folder(), &project)
        })
    };
    let built = built.await.unwrap().unwrap();
    assert_eq!(built.path, project.join("my-router.wasm"));

    // As `cp` does: not as a whole, and with no binding beside it.
    std::fs::copy(&built.path, broker.plugins().join("my-router.wasm")).unwrap();
    let status = broker.active_after(&client, "my-router", 0).await;
    assert_eq!((status.role.as_str(), status.error), ("router", None));
    assert_eq!(target_of("mail").await, "edited");

    // With the binding that came with it, as the page goes on.
    let toml = std::fs::read_to_string(project.join("binding.toml")).unwrap();
    broker.put_binding("my-router", &toml);
    broker.active_after(&client, "my-router", 1).await;
    assert_eq!(target_of("mail.berlin").await, "edited");
    assert_eq!(target_of("mail").await, "mail", "not in its scope any more");
    broker.stop().await;
}
