// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// The names of history's keys in Redis.
///
/// View: cluster. All carry one hash tag, so they live on one primary and one script may touch
/// them all.
///
/// | key | type | what |
/// |---|---|---|
/// | `{prefix}:seq` | hash | `ms` and `n` of the newest event ID; `epoch` and `server`: see ``EpochEnd`` |
/// | `{prefix}:epochs` | list | the last 64 places where Redis went on from before, newest first |
/// | `{prefix}:topics` | set | every topic that has history |
/// | `{prefix}:news` | stream | topics in the order in which they first got history |
/// | `{prefix}:window:TOPIC` | stream | the events' bytes, one entry a batch; short retention |
/// | `{prefix}:index:TOPIC` | stream | where each batch lies in Kafka; long retention |
/// | `{prefix}:floor:TOPIC` | hash | `id` of the newest batch the window let go, `events` and `bytes` in it; `index`, the newest batch the index let go; `anew:P`, the newest ID when partition P was made anew |
/// | `{prefix}:hw:TOPIC` | hash | partition -> high-water offset |
///
/// Entries carry the ID of their last event and these fields, in this order, because the scripts
/// find them by place:
///
/// | entry | fields |
/// |---|---|
/// | window, a batch | `p` partition, `o` first offset, `c` count of events, `b` ``BatchEncoding`` |
/// | index, a batch | `p`, `o`, `c`, `b` how many bytes the window's entry has; then `x`, the offsets, where they are not consecutive |
/// | window, a loss | `p`, `o`, `c` (always 1), `b` (empty), `l` ``HistoryLoss`` |
/// | index, a loss | `p`, `o`, `c` (always 1), `l` |
package struct HistoryKeys: Sendable, Hashable {
    package let prefix: String

    package init(prefix: String) { self.prefix = prefix }

    package var sequence: String { "{\(prefix)}:seq" }
    package var topics: String { "{\(prefix)}:topics" }
    package var news: String { "{\(prefix)}:news" }
    package var epochEnds: String { "{\(prefix)}:epochs" }
    /// What the name of every key begins with.
    package var root: String { "{\(prefix)}" }
    package func window(_ topic: String) -> String { "{\(prefix)}:window:\(topic)" }
    package func index(_ topic: String) -> String { "{\(prefix)}:index:\(topic)" }
    package func floor(_ topic: String) -> String { "{\(prefix)}:floor:\(topic)" }
    package func highWater(_ topic: String) -> String { "{\(prefix)}:hw:\(topic)" }
}
