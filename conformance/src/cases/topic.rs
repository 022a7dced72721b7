//! Section 7: the exchange types direct, fanout and topic.

use super::cases;
use crate::client::{Channel, bind, unbind};
use crate::outcome::{Outcome, fail, same};
use crate::trial::Trial;

cases! {
    "7": direct_compares_bytes, fanout_ignores_keys, topic_hash_matches_any_number_of_words,
        topic_star_matches_one_word, topic_empty_words_are_words,
        topic_hash_in_the_middle, topic_several_hashes, topic_wildcards_are_whole_words,
        topic_is_case_sensitive, topic_keys_without_wildcards, topic_bindings_are_independent,
        topic_unbind_of_one_key, predeclared_exchanges_route;
}

/// A queue bound to a new exchange of this kind.
fn bound(trial: &Trial<'_>, kind: &str, key: &str) -> Outcome<(Channel, String, String)> {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    let name = trial.new_exchange(&channel, kind)?;
    channel.call(&bind(&queue, &name, key))?;
    Ok((channel, queue, name))
}

fn direct_compares_bytes(trial: &Trial<'_>) -> Outcome {
    let (channel, queue, name) = bound(trial, "direct", "Key.*")?;
    for key in ["Key.*", "key.*", "Key.x", "Key", "", "Key.* "] {
        channel.publish(&name, key, key);
    }
    channel.expect_bodies(&queue, &["Key.*"])
}

fn fanout_ignores_keys(trial: &Trial<'_>) -> Outcome {
    let (channel, queue, name) = bound(trial, "fanout", "only this")?;
    for key in ["", "that", "only this"] {
        channel.publish(&name, key, key);
    }
    channel.expect_bodies(&queue, &["", "that", "only this"])
}

/// Whether a binding key of a topic exchange matches each of these routing keys.
fn matches(trial: &Trial<'_>, binding: &str, expected: &[(&str, bool)]) -> Outcome {
    let (channel, queue, name) = bound(trial, "topic", binding)?;
    for (key, is_match) in expected {
        channel.publish(&name, key, key);
        let found = channel.has_message(&queue)?;
        if found != *is_match {
            return fail(format!("{binding:?} matches {key:?}: {found}"));
        }
    }
    Ok(())
}

fn topic_hash_matches_any_number_of_words(trial: &Trial<'_>) -> Outcome {
    matches(trial, "#", &[("", true), ("a", true), ("a.b.c", true), ("..", true)])?;
    matches(trial, "a.#", &[("a", true), ("a.", true), ("a.b.c", true), ("b", false)])?;
    matches(trial, "#.b", &[("b", true), ("a.b", true), ("a.a.b", true), ("b.a", false)])?;
    matches(trial, "#.", &[("", false), ("a.", true), (".", true)])
}

fn topic_star_matches_one_word(trial: &Trial<'_>) -> Outcome {
    matches(trial, "*", &[("", false), ("a", true), ("a.b", false)])?;
    matches(trial, "a.*", &[("a.", true), ("a", false), ("a.b", true), ("a.b.c", false)])?;
    matches(trial, "*.*", &[(".", true), ("a.b", true), ("a", false), ("a.b.c", false)])?;
    matches(trial, "*.b.*", &[("a.b.c", true), ("a.c.c", false), (".b.", true)])
}

fn topic_empty_words_are_words(trial: &Trial<'_>) -> Outcome {
    matches(trial, "", &[("", true), ("a", false), (".", false)])?;
    matches(trial, "a.*.c", &[("a..c", true), ("a.b.c", true), ("a.c", false)])?;
    matches(trial, "a..b", &[("a..b", true), ("a.b", false), ("a.x.b", false)])
}

fn topic_hash_in_the_middle(trial: &Trial<'_>) -> Outcome {
    let keys = [("a.b", true), ("a..b", true), ("a.x.y.b", true), ("a.b.c", false), ("a", false)];
    matches(trial, "a.#.b", &keys)
}

fn topic_several_hashes(trial: &Trial<'_>) -> Outcome {
    matches(trial, "#.#", &[("", true), ("a", true), ("a.b", true)])?;
    matches(trial, "*.#", &[("", false), ("a", true), ("a.b", true)])?;
    matches(trial, "#.*", &[("", false), ("a", true), ("a.b", true)])?;
    matches(trial, "a.#.#.b", &[("a.b", true), ("a.x.b", true), ("a", false)])?;
    matches(trial, "#.a.#", &[("a", true), ("x.a.y", true), ("x.y", false)])
}

fn topic_wildcards_are_whole_words(trial: &Trial<'_>) -> Outcome {
    matches(trial, "a#", &[("ab", false), ("a#", true), ("a", false)])?;
    matches(trial, "a*.b", &[("ax.b", false), ("a*.b", true)])?;
    matches(trial, "*a", &[("xa", false), ("*a", true)])?;
    matches(trial, "##", &[("", false), ("a", false), ("##", true)])
}

fn topic_is_case_sensitive(trial: &Trial<'_>) -> Outcome {
    matches(trial, "A.b", &[("A.b", true), ("a.b", false), ("A.B", false)])
}

fn topic_keys_without_wildcards(trial: &Trial<'_>) -> Outcome {
    let keys = [("a.b.c", true), ("a.b", false), ("a.b.c.d", false), ("a.b.#", false)];
    matches(trial, "a.b.c", &keys)
}

fn topic_bindings_are_independent(trial: &Trial<'_>) -> Outcome {
    let (channel, one, name) = bound(trial, "topic", "stock.*.new")?;
    let two = trial.new_queue(&channel)?;
    channel.call(&bind(&two, &name, "stock.#"))?;
    channel.call(&bind(&two, &name, "order.*"))?;
    for key in ["stock.ab.new", "stock.ab.old", "order.1", "order.1.2"] {
        channel.publish(&name, key, key);
    }
    channel.expect_bodies(&one, &["stock.ab.new"])?;
    channel.expect_bodies(&two, &["stock.ab.new", "stock.ab.old", "order.1"])
}

fn topic_unbind_of_one_key(trial: &Trial<'_>) -> Outcome {
    let (channel, queue, name) = bound(trial, "topic", "a.#")?;
    channel.call(&bind(&queue, &name, "a.*"))?;
    channel.call(&unbind(&queue, &name, "a.#"))?;
    channel.publish(&name, "a.b.c", "only the first");
    channel.publish(&name, "a.b", "both");
    channel.expect_bodies(&queue, &["both"])
}

fn predeclared_exchanges_route(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    for name in ["amq.direct", "amq.topic"] {
        channel.call(&bind(&queue, name, &queue))?;
        channel.publish(name, &queue, name);
        let content = channel.take(&queue)?;
        same("exchange", content.method.text("exchange").as_str(), name)?;
    }
    Ok(())
}
