// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import PosixIO

/// Bytes a second: what has been spent too much is waited for.
///
/// Does no input or output. What a page costs is known only once it has been read, so the budget
/// goes into debt by one page and then waits until that is paid.
package struct ByteBudget: Sendable {
    private let bytesPerSecond: Double
    private let most: Double
    private var left: Double
    private var updated: MonotonicTime

    /// - Parameter bytesPerSecond: 0 is no limit.
    package init(bytesPerSecond: Int, now: MonotonicTime) {
        self.bytesPerSecond = Double(bytesPerSecond)
        // A quarter of a second's worth may be spent at once.
        most = self.bytesPerSecond / 4
        left = most
        updated = now
    }

    package mutating func spend(_ bytes: Int, now: MonotonicTime) {
        refill(now)
        left -= Double(bytes)
    }

    /// How long to wait before the next bytes; zero where there is no need to.
    package mutating func delay(now: MonotonicTime) -> Duration {
        guard bytesPerSecond > 0 else { return .zero }
        refill(now)
        return left >= 0 ? .zero : .nanoseconds(Int64(-left / bytesPerSecond * 1e9) + 1)
    }

    private mutating func refill(_ now: MonotonicTime) {
        guard now > updated else { return }
        left = min(most, left + (now - updated).inSeconds * bytesPerSecond)
        updated = now
    }
}
