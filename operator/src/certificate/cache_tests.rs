#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;

/// A Certificate as the watch gives it.
fn certificate(name: &str, uid: &str, secret: &str, made: &str) -> Guarded {
    serde_json::from_value(serde_json::json!({
        "apiVersion": "gatehouse.dev/v1alpha1",
        "kind": "Certificate",
        "metadata": {"name": name, "namespace": "app", "uid": uid, "creationTimestamp": made, "resourceVersion": "1"},
        "spec": {"secretName": secret, "issuerRef": {"name": "ca"}, "dnsNames": ["web.test"]},
    }))
    .unwrap()
}

/// A cache, and what comes out of it as gone.
struct World {
    cache: Arc<Cache>,
    certificates: Writer<Guarded>,
    gone: mpsc::UnboundedReceiver<String>,
    gone_in: mpsc::UnboundedSender<String>,
}

impl World {
    fn new() -> Self {
        let (cache, inlets) = Cache::new();
        let (certificates, _, _) = inlets.split();
        let (gone_in, gone) = mpsc::unbounded_channel();
        Self {
            cache,
            certificates,
            gone,
            gone_in,
        }
    }

    fn list(&mut self, objects: Vec<Guarded>) {
        self.see(Event::Init);
        for object in objects {
            self.see(Event::InitApply(object));
        }
        self.see(Event::InitDone);
    }

    fn see(&mut self, event: Event<Guarded>) {
        self.cache
            .take_certificate(&event, &mut self.certificates, &self.gone_in);
    }

    fn gone(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.gone.try_recv().ok()).collect()
    }
}

const EARLY: &str = "2026-01-01T00:00:00Z";
const LATE: &str = "2026-01-01T00:00:01Z";

#[test]
fn of_two_that_want_one_secret_the_first_may_make_it() {
    let mut world = World::new();
    world.list(vec![
        certificate("a", "1", "tls", LATE),
        certificate("b", "2", "tls", EARLY),
        certificate("c", "3", "other", EARLY),
    ]);
    assert_eq!(world.cache.first_claim("app", "tls").as_deref(), Some("b"));
    world.see(Event::Delete(certificate("b", "2", "tls", EARLY)));
    assert_eq!(world.cache.first_claim("app", "tls").as_deref(), Some("a"));
    assert_eq!(world.cache.first_claim("elsewhere", "tls"), None);
}

#[test]
fn what_went_while_the_watch_was_interrupted_is_gone_too() {
    let mut world = World::new();
    world.list(vec![
        certificate("a", "1", "a-tls", EARLY),
        certificate("b", "2", "b-tls", EARLY),
        certificate("c", "3", "c-tls", EARLY),
    ]);
    assert_eq!(world.gone(), Vec::<String>::new());
    // b went, c was made anew.
    world.list(vec![
        certificate("a", "1", "a-tls", EARLY),
        certificate("c", "4", "c-tls", LATE),
    ]);
    let mut gone = world.gone();
    gone.sort();
    assert_eq!(gone, ["app/b/2", "app/c/3"]);
    world.see(Event::Delete(certificate("a", "1", "a-tls", EARLY)));
    assert_eq!(world.gone(), ["app/a/1"]);
}
