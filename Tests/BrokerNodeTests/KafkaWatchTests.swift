// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Dependability
import KafkaClient
import PosixIO
import Testing

@testable import BrokerNode

@Suite("What a node knows of Kafka")
struct KafkaWatchTests {
    private let watch = KafkaWatch()
    private let start = MonotonicTime.now

    private func brokers(_ states: String...) -> [KafkaBroker] {
        states.enumerated().map { index, state in
            KafkaBroker(id: Int32(index + 1), address: "10.0.0.\(index + 1):9092", state: state)
        }
    }

    private func status(_ seconds: Int64 = 0) -> Dependency.Status {
        watch.dependency.status(at: start + .seconds(seconds))
    }

    @Test("one broker that is away is named, and Kafka is not")
    func partial() {
        watch.take(brokers("UP", "CONNECT", "UP"), at: start)
        #expect(status().word == "partial")
        #expect(status().breaker == .closed)
        #expect(status().trouble?.message.contains("1 of 3 brokers") == true)
        #expect(status().trouble?.message.contains("2 (10.0.0.2:9092) is CONNECT") == true)
        watch.take(brokers("UP", "UP", "UP"), at: start + .seconds(4))
        #expect(status(4).isWell)
    }

    @Test("all brokers away, twice in a row, open the breaker; one that is back closes it")
    func unreachable() {
        let away = brokers("DOWN", "CONNECT")
        watch.take(away, at: start)
        #expect(status().breaker == .closed, "as at the start of a node")
        watch.take(away, at: start + .seconds(1))
        #expect(status(1).word == "unreachable")
        #expect(status(1).breaker == .open)
        watch.take(brokers("UP", "CONNECT"), at: start + .seconds(2))
        #expect(status(2).breaker == .closed)
        #expect(status(2).word == "partial")
    }

    @Test("brokers that take and do not answer are silent, until something is confirmed")
    func silent() {
        let up = brokers("UP", "UP")
        watch.sent(at: start)
        watch.take(up, at: start + .seconds(3))
        #expect(status(3).isWell)
        for second in 4...5 { watch.take(up, at: start + .seconds(Int64(second))) }
        #expect(status(5).word == "silent")
        #expect(status(5).breaker == .open)
        watch.answered(true, at: start + .seconds(6))
        #expect(status(6).isWell)
        watch.take(up, at: start + .seconds(7))
        #expect(status(7).isWell)
    }

    @Test("an access list that forbids something is told, with what it forbids")
    func refusals() {
        watch.consumerFailed(KafkaError(.authorizationFailed, "its.cameras[3]: not authorized"))
        #expect(watch.dependency.status().word == "unauthorized")
        #expect(watch.dependency.status().trouble?.message.contains("its.cameras[3]") == true)
        watch.consumerFailed(KafkaError(.authenticationFailed, "wrong password"))
        #expect(watch.dependency.status().word == "unauthenticated")
        watch.consumerFailed(KafkaError(.brokersUnavailable, "all down", name: "_ALL_BROKERS_DOWN"))
        watch.consumerFailed(KafkaError(.brokersUnavailable, "all down", name: "_ALL_BROKERS_DOWN"))
        #expect(watch.dependency.status().breaker == .closed)
    }
}
