// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import PosixIO
import Testing

@testable import HTTPServer

extension HTTPServerTests {
    @Suite("Parts of the server")
    struct PartsTests {
        @Test("a budget never gives more slots than it has, whoever asks")
        func budget() {
            let budget = ConnectionBudget(limit: 100)
            let taken = Lock(0)
            let threads = (0..<4).map { index in
                NamedThread("taker-\(index)") {
                    for _ in 0..<1000 where budget.tryAcquire() { taken.withLock { $0 += 1 } }
                }
            }
            for thread in threads { thread.join() }
            #expect(taken.withLock { $0 } == 100)
            #expect(budget.inUse == 100)
            budget.release()
            #expect(budget.tryAcquire())
            #expect(!budget.tryAcquire())
        }

        @Test("a deadline is taken out once it has passed, never before")
        func deadlineOrder() {
            let start = MonotonicTime(nanoseconds: 1_000_000_000)
            var buckets = DeadlineBuckets(step: .milliseconds(500), now: start)
            let step = buckets.step(of: start + .milliseconds(700))
            #expect(buckets.append(7, step: step) == 2)
            #expect(buckets.takeNext(now: start + .milliseconds(499)) == nil)
            #expect(buckets.takeNext(now: start + .milliseconds(999)) == [])
            #expect(buckets.takeNext(now: start + .milliseconds(999)) == nil)
            #expect(buckets.takeNext(now: start + .milliseconds(1000)) == [7])
            #expect(buckets.takeNext(now: start + .milliseconds(1000)) == nil)
        }

        @Test("a deadline further away than there is room for comes out early, to be queued again")
        func farDeadline() {
            let start = MonotonicTime(nanoseconds: 0)
            var buckets = DeadlineBuckets(step: .seconds(1), now: start)
            let step = buckets.step(of: start + .seconds(1000))
            #expect(step == 1000)
            let taken = buckets.append(9, step: step)
            #expect(taken == 127)
            var seen: [UInt32] = []
            while let keys = buckets.takeNext(now: start + .seconds(200)) {
                if keys == [9] { seen.append(buckets.currentStep) }
            }
            #expect(seen == [127])
        }

        @Test("a deadline in the past is the next step, and none is step zero")
        func pastDeadline() {
            let start = MonotonicTime(nanoseconds: 5_000_000_000)
            let buckets = DeadlineBuckets(step: .seconds(1), now: start)
            #expect(buckets.step(of: MonotonicTime(nanoseconds: 0)) == 1)
            #expect(buckets.step(of: start) == 1)
        }

        @Test(
            "dates print as HTTP writes them",
            arguments: [
                (UInt64(0), "Thu, 01 Jan 1970 00:00:00 GMT"),
                (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
                (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
                (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
                (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 GMT"),
                (1_767_225_599, "Wed, 31 Dec 2025 23:59:59 GMT"),
                (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            ])
        func dates(seconds: UInt64, text: String) {
            #expect(HTTPDate.text(seconds: seconds) == text)
        }
    }
}
