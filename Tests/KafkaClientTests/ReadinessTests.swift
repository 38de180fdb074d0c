// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import KafkaClient
import Observability
import PosixIO
import Testing

@Suite("The readiness descriptor")
struct ReadinessTests {
    @Test("it is readable while events wait, also where the limit ended a drain, and not after")
    func level() async throws {
        let scene = try Scene()
        let member = try Member(scene.cluster) { _ in .beginning }
        try member.consumer.subscribe(topics: [scene.topic])
        let descriptor = member.consumer.readinessDescriptor
        try await eventually("the partition") {
            member.pump()
            return member.consumer.assignment == [scene.at(0)]
        }
        for round in 0..<20 {
            try scene.write(0..<50)
            // One wake-up at a time, and one event per wake-up: nothing may be left behind.
            while member.seen.count < (round + 1) * 50 {
                guard isReadable(descriptor, within: patience) else {
                    Issue.record("no wake-up with \(member.seen.count) of \((round + 1) * 50)")
                    return
                }
                _ = member.consumer.drain(limit: 1) { event in
                    switch event {
                    case .record(let record): member.seen.append(Seen(record))
                    default: break
                    }
                }
            }
        }
        member.pump()
        #expect(!isReadable(descriptor, within: .zero))
        member.consumer.close(within: .seconds(10))
    }
}
