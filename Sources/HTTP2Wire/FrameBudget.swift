// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import PosixIO

/// How many more frames of one kind may come now.
struct TokenBucket {
    private var tokens: Double
    private var filledAt: MonotonicTime

    init(_ rate: HTTP2Limits.FrameRate, now: MonotonicTime) {
        tokens = Double(rate.burst)
        filledAt = now
    }

    /// Takes one token; false where none is left.
    mutating func take(_ rate: HTTP2Limits.FrameRate, now: MonotonicTime) -> Bool {
        if now > filledAt {
            let seconds = Double(now.nanoseconds - filledAt.nanoseconds) / 1e9
            add(seconds * Double(rate.perSecond), rate)
            filledAt = now
        }
        guard tokens >= 1 else { return false }
        tokens -= 1
        return true
    }

    mutating func add(_ more: Double, _ rate: HTTP2Limits.FrameRate) {
        tokens = min(tokens + more, Double(rate.burst))
    }
}

/// The frames of a connection that cost us more than they cost their sender, by kind.
struct FrameBudget {
    private let settings: HTTP2Settings
    private var resets: TokenBucket
    private var pings: TokenBucket
    private var settingsFrames: TokenBucket
    private var windowUpdates: TokenBucket
    private var idleFrames: TokenBucket

    init(_ settings: HTTP2Settings, now: MonotonicTime) {
        self.settings = settings
        let limits = settings.limits
        resets = TokenBucket(limits.resets, now: now)
        pings = TokenBucket(limits.pings, now: now)
        settingsFrames = TokenBucket(limits.settings, now: now)
        windowUpdates = TokenBucket(limits.windowUpdates, now: now)
        idleFrames = TokenBucket(limits.idleFrames, now: now)
    }

    /// Charges for a frame that comes; names the flood where it is one too many.
    mutating func charge(_ frame: FrameHead, now: MonotonicTime) -> HTTP2Error.Code? {
        let limits = settings.limits
        switch frame.type {
        case .data:
            if frame.length > 0 || frame.flags & FrameHead.endStream != 0 { return nil }
        case .headers: return nil
        case .settings where frame.flags & FrameHead.acknowledgement != 0: break
        case .ping where frame.flags & FrameHead.acknowledgement != 0: break
        case .resetStream: return chargeReset(now: now)
        case .settings:
            return settingsFrames.take(limits.settings, now: now) ? nil : .settingsFlood
        case .ping: return pings.take(limits.pings, now: now) ? nil : .pingFlood
        case .windowUpdate:
            return windowUpdates.take(limits.windowUpdates, now: now) ? nil : .windowUpdateFlood
        default: break
        }
        return idleFrames.take(limits.idleFrames, now: now) ? nil : .idleFrameFlood
    }

    /// Charges for a stream that ends early, whoever ends it.
    mutating func chargeReset(now: MonotonicTime) -> HTTP2Error.Code? {
        resets.take(settings.limits.resets, now: now) ? nil : .resetFlood
    }

    /// Bytes that the peer will want to make room for again.
    mutating func earn(bytes: Int) {
        let limits = settings.limits
        windowUpdates.add(
            Double(bytes) / Double(limits.bytesPerWindowUpdate), limits.windowUpdates)
    }
}

/// The part of a frame's head that tells what it costs (RFC 9113, section 4.1).
struct FrameHead {
    struct Kind: Equatable {
        let rawValue: UInt8
        static let data = Kind(rawValue: 0)
        static let headers = Kind(rawValue: 1)
        static let resetStream = Kind(rawValue: 3)
        static let settings = Kind(rawValue: 4)
        static let ping = Kind(rawValue: 6)
        static let goAway = Kind(rawValue: 7)
        static let windowUpdate = Kind(rawValue: 8)
    }

    static let endStream: UInt8 = 0x1
    static let acknowledgement: UInt8 = 0x1

    let length: Int
    let type: Kind
    let flags: UInt8
}
