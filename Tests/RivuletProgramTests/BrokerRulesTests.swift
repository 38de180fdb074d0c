// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import KafkaClient
import NodeConfiguration
import PosixIO
import Testing
import TrafficScene

@testable import rivulet

@Suite("Commands of the development broker")
struct BrokerControlTests {
    let control = BrokerControl(brokers: 3, partitions: 12)

    @Test("every command is read")
    func commands() throws {
        #expect(try control.parse("down 1") == .down([1]))
        #expect(try control.parse("down all") == .down([1, 2, 3]))
        #expect(try control.parse(" up\t3 ") == .up([3]))
        let partition = TopicPartition("orders", 2)
        #expect(try control.parse("leader orders 2 1") == .leader(partition, broker: 1))
        #expect(try control.parse("rtt 2 250") == .roundTrip([2], milliseconds: 250))
        #expect(try control.parse("rtt all 5") == .roundTrip([1, 2, 3], milliseconds: 5))
        #expect(
            try control.parse("error heartbeat fencedInstance")
                == .failures(.fencedInstance, of: .heartbeat, count: 1))
        #expect(
            try control.parse("error fetch topicAuthorizationFailed 20")
                == .failures(.topicAuthorizationFailed, of: .fetch, count: 20))
        let topic = DevelopmentTopic(name: "orders", partitions: 4)
        #expect(try control.parse("topic orders:4") == .topic(topic))
        let plain = DevelopmentTopic(name: "orders", partitions: 12)
        #expect(try control.parse("topic orders") == .topic(plain))
        #expect(try control.parse("servers") == .servers)
        #expect(try control.parse("quit") == .quit)
    }

    @Test(
        "anything else is answered with what is accepted",
        arguments: [
            "", "dwon 1", "down", "down 0", "down 4", "down one", "up 1 2", "leader orders x 1",
            "leader orders -1 1", "rtt 1 -5", "rtt 1 99999999999", "topic bad/name", "topic :4",
            "topic a:0", "quit now", "error fetch", "error fetsch disconnect",
            "error fetch oops", "error fetch disconnect 0", "\u{1b}[2J",
        ])
    func refusals(line: String) {
        let error = #expect(throws: ProgramError.self) { try control.parse(line) }
        #expect(error?.detail.contains("accepted: ") == true)
        #expect(error?.detail.contains("\u{1b}") == false)
    }
}

@Suite("Topics of the development broker")
struct DevelopmentTopicTests {
    @Test("names follow Kafka's rule")
    func names() {
        #expect(DevelopmentTopic.parse("a.B_c-1", partitions: 2)?.partitions == 2)
        for bad in ["", ".", "..", "a b", "ä", "a:b", "a:1:2", "a:", "a:0", "a:1001"] {
            #expect(DevelopmentTopic.parse(bad, partitions: 2) == nil, "\(bad)")
        }
        let long = String(repeating: "a", count: 250)
        #expect(DevelopmentTopic.parse(long, partitions: 2) == nil)
    }

    @Test("a configuration gives each of its topics once, with telemetry and dead letters")
    func configuration() {
        let topics = DevelopmentTopic.topics(of: Configuration(), partitions: 6)
        let names = topics.map(\.name)
        #expect(Set(names).count == names.count)
        for name in ["its.detections", "its.camera.events", "rivulet.dead-letter"] {
            #expect(names.contains(name))
        }
        #expect(topics.allSatisfy { $0.partitions == 6 })
    }
}

@Suite("The pace of the feed")
struct FeedPaceTests {
    @Test("without a rate the scene runs in real time")
    func realTime() {
        let interval = LiveFeed.tickInterval(TrafficScene(seed: 1), rate: nil)
        #expect(interval == TrafficScene.tick)
    }

    @Test("twice the rate is half the interval, and the extremes stay sane")
    func scaled() {
        let scene = TrafficScene(seed: 1)
        let slow = LiveFeed.tickInterval(scene, rate: 100)
        let fast = LiveFeed.tickInterval(scene, rate: 200)
        #expect(abs(slow.inSeconds / fast.inSeconds - 2) < 0.001)
        #expect(LiveFeed.tickInterval(scene, rate: 1e12) >= .microseconds(1))
        #expect(LiveFeed.tickInterval(scene, rate: 1e-12) <= .seconds(3_600))
    }

    @Test("each kind of event has the topic of the built-in channels")
    func topics() {
        let topics = Configuration().channels.flatMap(\.topics)
        for kind in SceneEvent.Kind.allCases { #expect(topics.contains(LiveFeed.topic(of: kind))) }
    }
}
