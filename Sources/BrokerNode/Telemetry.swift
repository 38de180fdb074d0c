// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes
import Dependability
import History
import KafkaClient
import NodeConfiguration
import Observability
import PosixIO
import Reactor

/// Publishes what the node itself takes and does, through Kafka like any other event.
///
/// View: node. Threads: the loop it is started on. What it says is measured, never made up: CPU
/// and memory as the kernel counts them, connections and lag as the node does.
final class Telemetry {
    private let loop: EventLoop
    private let context: NodeContext
    /// Another one takes its place where it has failed for good.
    var producer: KafkaProducer
    private var previousCPU: Duration
    private var previousDelivered: UInt64 = 0
    private var previousTime: MonotonicTime
    private lazy var timer = LoopTimer { [weak self] in self?.publish() }

    init(loop: EventLoop, context: NodeContext, producer: KafkaProducer) {
        self.loop = loop
        self.context = context
        self.producer = producer
        previousCPU = ProcessUsage.current().cpuTime
        previousTime = .now
    }

    func start() { loop.schedule(timer, after: context.configuration.telemetry.interval) }

    func stop() { loop.cancel(timer) }

    private func publish() {
        loop.schedule(timer, after: context.configuration.telemetry.interval)
        // What nobody can take now would be old when somebody can.
        guard context.kafka.dependency.status().breaker == .closed else { return }
        let settings = context.configuration.telemetry
        let event = event()
        let failures = context.registry.counter(
            "rivulet_telemetry_failures_total", "Telemetry events that Kafka did not take.")
        do throws(KafkaError) {
            try producer.produce(
                topic: settings.topic, key: Array(context.status.nodeID.utf8), value: event
            ) { result in
                if case .failure = result { failures.add() }
            }
        } catch {
            // Telemetry gives way: the next one says what this one would have said.
            failures.add()
        }
    }

    private func event() -> [UInt8] {
        let usage = ProcessUsage.current()
        let now = MonotonicTime.now
        let elapsed = max(0.001, (now - previousTime).inSeconds)
        let delivered = context.eventsDelivered
        let cpu = (usage.cpuTime - previousCPU).inSeconds / elapsed * 100
        let rate = Double(delivered - min(delivered, previousDelivered)) / elapsed
        previousCPU = usage.cpuTime
        previousDelivered = delivered
        previousTime = now
        var json = JSONText()
        json.object { text in
            text.field("event_type", "resource_usage")
            text.field("service_name", "rivulet")
            text.field("node", context.status.nodeID)
            text.field("severity", "info")
            text.field("timestamp", WallClock.milliseconds)
            text.field("cpu_percent", (cpu * 10).rounded() / 10)
            text.field("memory_bytes", usage.residentBytes)
            text.field("connections", context.subscriberCount)
            text.field("events_per_second", (rate * 10).rounded() / 10)
            text.field("partitions", Int(context.ingestMetrics.partitions.value))
            text.field("lag", Int(context.ingestMetrics.lag.value))
            text.field("readiness", context.status.readiness.word.rawValue)
        }
        return json.bytes
    }
}
