// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import PosixIO

/// How long to wait before the next attempt: what the server asked for, longer after each failure,
/// and never all clients at once.
struct ReconnectDelay: Sendable {
    /// Where the server asked for nothing.
    static let initial: Duration = .seconds(2)
    /// What a server may ask for; less would hammer it, more would look dead.
    static let range: ClosedRange<Duration> = .milliseconds(100)...(.seconds(60))
    /// A server that comes back should not wait long for somebody who is watching.
    static let grownMax: Duration = .seconds(10)
    /// A `Retry-After` is honoured up to here.
    static let retryAfterMax: Duration = .seconds(600)

    private var base = Self.initial
    private var failures = 0

    /// Takes the `retry:` of a stream.
    mutating func asked(for retry: Duration) {
        base = min(max(retry, Self.range.lowerBound), Self.range.upperBound)
    }

    /// The server answered as it should: the next wait is the ordinary one.
    mutating func succeeded() { failures = 0 }

    /// The wait before the next attempt; longer the next time.
    mutating func next(using random: inout some RandomNumberGenerator) -> Duration {
        let doublings = min(failures, 10)
        failures += 1
        let grown = base * (1 << doublings)
        return Self.spread(max(base, min(grown, Self.grownMax)), using: &random)
    }

    /// The wait that a `Retry-After` asks for; `nil` where it does not say seconds.
    static func after(_ header: String?, using random: inout some RandomNumberGenerator)
        -> Duration?
    {
        guard let header, let seconds = Int(header), seconds >= 0 else { return nil }
        return spread(min(.seconds(min(seconds, 1_000_000)), retryAfterMax), using: &random)
    }

    /// Up to three tenths longer, never shorter than asked.
    private static func spread(_ delay: Duration, using random: inout some RandomNumberGenerator)
        -> Duration
    {
        delay * Double.random(in: 1..<1.3, using: &random)
    }
}
