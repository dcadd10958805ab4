//! Much of everything: lists come in several answers, and infos leave out what has an info
//! of its own.

use weir_client::{Create, CreateGroup, CreateQueue, Kind};
use weir_tests::TestBroker;

#[tokio::test(flavor = "multi_thread")]
async fn queues_with_many_long_patterns_are_listed() {
    const QUEUES: usize = 80;
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    let mut names = Vec::new();
    for number in 0..QUEUES {
        let name = format!("q{number:03}");
        // All together they are longer than any frame.
        let tail = "x".repeat(240);
        let subjects = (0..64).map(|at| format!("{name}.{at}.{tail}")).collect();
        let queue = CreateQueue { name: name.clone(), subjects, ..CreateQueue::default() };
        client.create(Create::Queue(queue)).await.unwrap();
        names.push(name);
    }
    let items = client.list(Some(Kind::Queue)).await.unwrap();
    assert!(items.iter().all(|item| item.subjects.len() == 64));
    assert_eq!(items.into_iter().map(|item| item.name).collect::<Vec<_>>(), names);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_of_all_its_groups_however_long_their_options_are() {
    const GROUPS: usize = 80;
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    client.create_stream("flights", 1, &[]).await.unwrap();
    let options = serde_json::Map::from_iter([("note".to_owned(), "x".repeat(16_000).into())]);
    let mut names = Vec::new();
    for number in 0..GROUPS {
        let name = format!("g{number:03}");
        let (stream, options) = ("flights".into(), options.clone());
        let group = CreateGroup { stream, name: name.clone(), options, ..CreateGroup::default() };
        client.create(Create::Group(group)).await.unwrap();
        names.push(name);
    }
    let info = client.stream_info("flights").await.unwrap();
    assert_eq!(info.groups[0].options, options, "there is room for some");
    let last = &info.groups[GROUPS - 1];
    assert!(last.options.is_empty() && last.cursors.is_empty(), "and not for all");
    let last = client.group_info("flights", &last.name).await.unwrap();
    assert_eq!((last.options, last.cursors), (options, vec![0]), "its own info has them");
    assert_eq!(info.groups.into_iter().map(|group| group.name).collect::<Vec<_>>(), names);
}
