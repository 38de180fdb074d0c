// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import Observability

/// What replay counts. Written by its loop, read by the metrics page.
package final class ReplayMetrics: Sendable {
    package let pages: Counter
    package let kafkaPages: Counter
    package let kafkaBytes: Counter
    package let shared: Counter
    package let cached: Counter
    package let events: Counter
    package let unavailable: Counter
    package let waiting: Gauge
    package let heldBytes: Gauge

    package init(in registry: MetricsRegistry) {
        let pagesHelp = "Pages of history read, by where the events came from."
        pages = registry.counter("rivulet_replay_pages_total", pagesHelp, [("from", "redis")])
        kafkaPages = registry.counter("rivulet_replay_pages_total", pagesHelp, [("from", "kafka")])
        kafkaBytes = registry.counter(
            "rivulet_replay_kafka_bytes_total", "Bytes of records read back from Kafka.")
        shared = registry.counter(
            "rivulet_replay_shared_total", "Requests answered by a page that another one asked for."
        )
        cached = registry.counter(
            "rivulet_replay_cached_total",
            "Requests answered by a page of Kafka that was still there.")
        events = registry.counter("rivulet_replay_events_total", "Events read back from history.")
        unavailable = registry.counter(
            "rivulet_replay_unavailable_total",
            "Pages that Redis or Kafka did not give in time; they are asked for again.")
        waiting = registry.gauge("rivulet_replay_waiting", "Requests for a page that wait.")
        heldBytes = registry.gauge(
            "rivulet_replay_held_bytes",
            "Memory of pages that clients are being sent, or that are kept for others.")
    }
}
