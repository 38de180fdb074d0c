// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import BrokerTestKit
import ClusterHarness
import Dependability
import Observability
import PosixIO
import Reactor
import RedisClient
import Testing

@testable import BrokerNode

@Suite("The keeper of the tail", .timeLimit(.minutes(2)))
struct TailKeeperTests {
    private let dependency = Dependency("redis")
    private let start = MonotonicTime.now

    private func component() -> Component {
        Supervisor(.init(), in: MetricsRegistry(), log: NodeBench.quiet).supervise("tail")
    }

    @Test("a tail that stands still though Redis answers gets new connections")
    func restarts() throws {
        let server = try RedisServerProcess()
        let loop = try EventLoop(name: "tail-test")
        loop.start()
        defer {
            loop.stop()
            #expect(loop.join(within: .seconds(10)))
        }
        let readyCount = Lock(0)
        let (dependency, component, start) = (dependency, component(), start)
        let parts = try #require(
            loop.answer {
                let connection = RedisConnection(
                    loop: loop,
                    settings: RedisSettings(address: .unix(path: server.socketPath)),
                    purpose: "test", log: NodeBench.quiet, dependency: dependency)
                connection.onStateChange = { state in
                    if state == .ready { readyCount.withLock { $0 += 1 } }
                }
                connection.start()
                let keeper = TailKeeper(
                    loop: loop, component: component, redis: dependency,
                    connections: [connection])
                return LoopBound((keeper, connection), on: loop)
            })
        defer { loop.answer { parts.value.1.stop() } }
        func look(_ isFollowing: Bool, after seconds: Int64) {
            loop.answer {
                parts.value.0.look(isFollowing: isFollowing, at: start + .seconds(seconds))
            }
        }
        #expect(Waiting.until(within: .seconds(20)) { readyCount.withLock { $0 } == 1 })
        look(true, after: 0)
        #expect(component.status.phase == .running)
        look(false, after: 1)
        look(false, after: 10)
        #expect(component.status.phase == .running, "for nine seconds")
        look(false, after: 11)
        #expect(component.status.phase == .restarting)
        look(false, after: 30)
        #expect(component.status.restarts == 0, "once is enough")
        #expect(Waiting.until(within: .seconds(20)) { readyCount.withLock { $0 } == 2 })
        look(true, after: 31)
        #expect(component.status.phase == .running)
        #expect(component.status.restarts == 1)
    }

    @Test("trouble of Redis' own is no failure of the tail")
    func redisAway() throws {
        let loop = try EventLoop(name: "tail-test")
        loop.start()
        defer {
            loop.stop()
            #expect(loop.join(within: .seconds(10)))
        }
        let (dependency, component, start) = (dependency, component(), start)
        loop.answer {
            let keeper = TailKeeper(
                loop: loop, component: component, redis: dependency, connections: [])
            keeper.look(isFollowing: true, at: start)
            for second in 1...60 {
                let now = start + .seconds(Int64(second))
                dependency.failed(Trouble("silent", "nothing"), at: now)
                keeper.look(isFollowing: false, at: now)
            }
        }
        #expect(component.status.phase == .running)
    }
}
