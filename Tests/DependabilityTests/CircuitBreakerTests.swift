// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Dependability
import PosixIO
import Testing

/// The same numbers in each run.
struct FixedRandom: RandomNumberGenerator, Sendable {
    var state: UInt64 = 1

    mutating func next() -> UInt64 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return state
    }
}

@Suite("Circuit breaker")
struct CircuitBreakerTests {
    private var breaker = CircuitBreaker()
    private var now = MonotonicTime(nanoseconds: 1_000_000_000)
    private var random = FixedRandom()

    private mutating func fail(_ times: Int = 1) {
        for _ in 0..<times { breaker.failed(at: now, using: &random) }
    }

    private mutating func pass(_ milliseconds: Int64) { now = now + .milliseconds(milliseconds) }

    private mutating func isAdmitted() -> Bool { breaker.admits(at: now) }

    /// Milliseconds until somebody is admitted.
    private mutating func wait() -> Int64 {
        var waited: Int64 = 0
        while !breaker.admits(at: now) {
            pass(1)
            waited += 1
        }
        return waited
    }

    @Test("a few failures do not open it, and a success between them starts the count anew")
    mutating func stays() {
        fail(2)
        breaker.succeeded(at: now)
        fail(2)
        #expect(breaker.state == .closed)
        let isAdmitted = isAdmitted()
        #expect(isAdmitted)
        fail()
        #expect(breaker.state == .open)
        #expect(breaker.opens == 1)
    }

    @Test("failures far apart are not in a row")
    mutating func farApart() {
        for _ in 0..<10 {
            fail()
            pass(10_001)
        }
        #expect(breaker.state == .closed)
    }

    @Test("open, nobody is admitted; after the pause one is, and the others wait for it")
    mutating func oneProbe() {
        fail(3)
        var isAdmitted = isAdmitted()
        #expect(!isAdmitted)
        let waited = wait()
        #expect((100...200).contains(waited), "\(waited)")
        #expect(breaker.state == .halfOpen)
        for _ in 0..<100 {
            isAdmitted = self.isAdmitted()
            #expect(!isAdmitted, "one probe at a time")
            pass(10)
        }
        breaker.succeeded(at: now)
        #expect(breaker.state == .closed)
        isAdmitted = self.isAdmitted()
        #expect(isAdmitted)
    }

    @Test("each failed probe lengthens the pause up to its bound, and a success forgets that")
    mutating func pauses() {
        fail(3)
        var longest: Int64 = 0
        for _ in 0..<50 {
            let waited = wait()
            #expect((100...1000).contains(waited), "\(waited)")
            longest = max(longest, waited)
            fail()
        }
        #expect(longest > 500, "the pauses are drawn from all of the range: \(longest)")
        #expect(breaker.opens == 1, "it has been open all the time")
        _ = wait()
        breaker.succeeded(at: now)
        fail(3)
        let waited = wait()
        #expect(waited <= 200)
    }

    @Test("a probe that is never answered makes room for another")
    mutating func lostProbe() {
        fail(3)
        _ = wait()
        let waited = wait()
        #expect(waited == 5000)
        #expect(breaker.state == .halfOpen)
    }

    @Test("what fails late, of what had begun before, does not lengthen the pause")
    mutating func lateFailures() {
        fail(3)
        pass(90)
        fail(20)
        let waited = wait()
        #expect(waited <= 110)
    }

    @Test("pauses of many nodes are not in step")
    func jitter() {
        var pauses: Set<Int64> = []
        for seed in 1...50 {
            var test = CircuitBreakerTests()
            test.random.state = UInt64(seed) &* 0x9E37_79B9_7F4A_7C15
            test.fail(3)
            pauses.insert(test.wait())
        }
        #expect(pauses.count > 20, "\(pauses)")
    }
}

@Suite("Dependency")
struct DependencyTests {
    private let dependency = Dependency("redis", random: FixedRandom())
    private let start = MonotonicTime(nanoseconds: 1_000_000_000)
    private let away = Trouble("unreachable", "nobody listens")

    @Test("one failure is no trouble; three are, until somebody is answered")
    func failures() {
        dependency.failed(away, at: start)
        #expect(dependency.status(at: start).isWell)
        dependency.failed(away, at: start)
        dependency.failed(away, at: start)
        let status = dependency.status(at: start)
        #expect(status.breaker == .open)
        #expect(status.trouble == away)
        #expect(status.word == "unreachable")
        let wait = dependency.admission(at: start)
        #expect(wait.map { $0 >= .milliseconds(50) && $0 <= .milliseconds(250) } == true)
        #expect(dependency.admission(at: start + .seconds(1)) == nil, "the probe")
        #expect(dependency.admission(at: start + .seconds(1)) != nil, "nobody beside it")
        dependency.succeeded(at: start + .seconds(1))
        #expect(dependency.status(at: start + .seconds(1)).word == "ready")
        #expect(dependency.admission(at: start + .seconds(1)) == nil)
    }

    @Test("a refusal is held against it for a while, and keeps nobody from asking")
    func refusals() {
        dependency.refused(Trouble("out_of_memory", "full"), at: start)
        #expect(dependency.status(at: start).word == "out_of_memory")
        #expect(dependency.admission(at: start) == nil)
        dependency.succeeded(at: start + .seconds(1))
        #expect(
            dependency.status(at: start + .seconds(1)).word == "out_of_memory",
            "other commands succeed meanwhile")
        #expect(dependency.status(at: start + .seconds(4)).isWell)
    }
}
