// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Observability
import PosixIO
import Testing

@testable import KafkaClient

@Suite("Brokers", .timeLimit(.minutes(2)))
struct BrokerTests {
    private static let statistics = #"""
        { "name": "rdkafka#producer-1", "ts":5016483227792, "cgrp": {"x": [1, {"y": "}"}]},
          "brokers": {
            "127.0.0.1:9092/1": { "name":"127.0.0.1:9092/1", "nodeid":1,
              "nodename":"127.0.0.1:9092", "source":"learned", "state":"UP", "rtt": {"min": 1.5},
              "toppars":{ "test-1": { "topic":"te\"st", "partition":1 } } },
            "127.0.0.1:9093/2": { "nodeid":2, "nodename":"127.0.0.1:9093", "source":"configured",
              "state":"CONNECT" },
            "127.0.0.1:9094/bootstrap": { "name":"127.0.0.1:9094/bootstrap", "nodeid":-1,
              "nodename":"127.0.0.1:9094", "source":"configured", "state":"DOWN" },
            "GroupCoordinator": { "name":"GroupCoordinator", "nodeid":1, "source":"logical",
              "state":"UP" },
            ":0/internal": { "name":":0/internal", "nodeid":-1, "source":"internal",
              "state":"INIT" }
          }, "topics": {} }
        """#

    @Test("statistics name the brokers of the cluster and how each is")
    func statistics() {
        let brokers = KafkaBroker.list(inStatistics: Array(Self.statistics.utf8))
        #expect(
            brokers == [
                KafkaBroker(id: 1, address: "127.0.0.1:9092", state: "UP"),
                KafkaBroker(id: 2, address: "127.0.0.1:9093", state: "CONNECT"),
            ])
        #expect(brokers.map(\.isUp) == [true, false])
    }

    @Test("before the cluster has named any, the configured ones are told")
    func configured() {
        let text = #"""
            {"brokers": {"a:1/bootstrap": {"name": "a:1/bootstrap", "nodeid": -1, "nodename": "",
            "source": "configured", "state": "TRY_CONNECT"}}}
            """#
        let brokers = KafkaBroker.list(inStatistics: Array(text.utf8))
        #expect(brokers == [KafkaBroker(id: -1, address: "a:1", state: "TRY_CONNECT")])
        #expect(brokers.first?.description == "a:1")
    }

    @Test("what is cut, or no statistics at all, brings nothing down")
    func damaged() {
        let whole = Array(Self.statistics.utf8)
        for end in 0..<whole.count {
            let brokers = KafkaBroker.list(inStatistics: Array(whole[..<end]))
            #expect(brokers.count <= 2)
        }
        for text in ["", "[", "{}}", "nonsense", #"{"brokers":[1,2]}"#, #"{"brokers":{"a":7}}"#] {
            #expect(KafkaBroker.list(inStatistics: Array(text.utf8)).isEmpty, "\(text)")
        }
    }

    @Test("a producer that is asked tells which broker has gone, and when it is back")
    func comesAndGoes() throws {
        let cluster = try KafkaMockCluster(brokers: 3, log: .silent)
        let seen = Lock<[KafkaBroker]>([])
        var settings = KafkaProducerSettings()
        settings.brokersEvery = .milliseconds(50)
        let producer = try KafkaProducer(
            settings: KafkaSettings(bootstrapServers: cluster.bootstrapServers),
            producer: settings, log: .silent,
            onBrokers: { brokers in seen.withLock { $0 = brokers } })
        defer { producer.close(within: .seconds(2)) }
        func becomes(_ up: [Int32]) -> Bool {
            let deadline = MonotonicTime.now + .seconds(30)
            while MonotonicTime.now < deadline {
                let brokers = seen.withLock { $0 }
                if brokers.count == 3, brokers.filter(\.isUp).map(\.id) == up { return true }
                _ = WakeSignal().wait(within: .milliseconds(5))
            }
            return false
        }
        #expect(becomes([1, 2, 3]), "\(seen.withLock { $0 })")
        try cluster.setBrokerDown(2)
        #expect(becomes([1, 3]), "\(seen.withLock { $0 })")
        try cluster.setBrokerUp(2)
        #expect(becomes([1, 2, 3]), "\(seen.withLock { $0 })")
    }
}
