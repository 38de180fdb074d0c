// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import Observability

/// What ingest counts. Written by its loop, read by the metrics page.
package final class IngestMetrics: Sendable {
    package let records: Counter
    package let events: Counter
    package let batches: Counter
    package let bytes: Counter
    package let duplicates: Counter
    package let retries: Counter
    package let tombstones: Counter
    package let redisLosses: Counter
    package let epochs: Counter
    package let lostOffsets: Counter
    package let deadLetterFailures: Counter
    package let partitions: Gauge
    package let lag: Gauge
    package let heldBytes: Gauge
    package let holds: Counter
    package let shedBatches: Counter
    package let shedEvents: Counter
    package let redisIsFull: Gauge
    package let appendTime: DurationHistogram
    private let registry: MetricsRegistry

    /// - Parameter gauges: Where the gauges go, where another ingest's are in `registry` already;
    ///   what is counted is counted together.
    package init(in registry: MetricsRegistry, gauges: MetricsRegistry? = nil) {
        let gauges = gauges ?? registry
        self.registry = registry
        records = registry.counter("rivulet_ingest_records_total", "Kafka records read.")
        events = registry.counter("rivulet_ingest_events_total", "Events appended to history.")
        batches = registry.counter("rivulet_ingest_batches_total", "Batches appended to history.")
        bytes = registry.counter("rivulet_ingest_bytes_total", "Bytes of batches appended.")
        duplicates = registry.counter(
            "rivulet_ingest_duplicate_batches_total",
            "Batches that were in history already, wholly or in part.")
        retries = registry.counter("rivulet_ingest_append_retries_total", "Appends sent again.")
        tombstones = registry.counter(
            "rivulet_ingest_tombstones_total", "Kafka records without a value, which make no event."
        )
        redisLosses = registry.counter(
            "rivulet_ingest_redis_losses_total",
            "Times Redis was found to have lost appended events.")
        epochs = registry.counter(
            "rivulet_ingest_epochs_total",
            "Times history went on in another server, or in one that was emptied.")
        lostOffsets = registry.counter(
            "rivulet_ingest_lost_offsets_total",
            "Kafka offsets that retention deleted before they were read.")
        deadLetterFailures = registry.counter(
            "rivulet_ingest_dead_letter_failures_total",
            "Records that could not be written to the dead-letter topic either.")
        partitions = gauges.gauge("rivulet_ingest_partitions", "Partitions this node reads.")
        lag = gauges.gauge(
            "rivulet_ingest_lag", "Kafka records that this node's partitions still hold for it.")
        heldBytes = gauges.gauge(
            "rivulet_ingest_held_bytes", "Bytes collected or on their way to Redis.")
        holds = registry.counter(
            "rivulet_ingest_holds_total",
            "Times reading stopped because Redis, or this node's tail, did not keep up.")
        shedBatches = registry.counter(
            "rivulet_ingest_shed_batches_total",
            "Window entries that a full Redis was made to let go, oldest first.")
        shedEvents = registry.counter(
            "rivulet_ingest_shed_events_total",
            "Events in them; clients get these from Kafka.")
        redisIsFull = gauges.gauge(
            "rivulet_ingest_redis_full", "1 while Redis has no memory left for appends.")
        appendTime = gauges.histogram(
            "rivulet_ingest_append_seconds", "Time of one append, from sending to the answer.")
    }

    /// The counter of dead letters for one reason.
    package func deadLetters(_ reason: DeadLetterReason) -> Counter {
        registry.counter(
            "rivulet_ingest_dead_letters_total",
            "Records that are no events and went to the dead-letter topic, by reason.",
            [("reason", reason.rawValue)])
    }
}

/// Why a record cannot be an event.
package enum DeadLetterReason: String, Sendable, CaseIterable {
    case notAnObject = "not_an_object"
    case malformed
    case tooLarge = "too_large"
    case invalidUTF8 = "invalid_utf8"
}
