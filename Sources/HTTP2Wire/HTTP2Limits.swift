// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// How much of a connection's frames is served before the peer is told to calm down.
///
/// View: node; every connection gets the same. Each limit is one connection's.
package struct HTTP2Limits: Sendable, Hashable {
    /// How many frames of a kind may come: at once, and then in each second.
    package struct FrameRate: Sendable, Hashable {
        package var burst: Int
        package var perSecond: Int

        package init(burst: Int, perSecond: Int) {
            self.burst = burst
            self.perSecond = perSecond
        }
    }

    /// Streams that are open at once (SETTINGS_MAX_CONCURRENT_STREAMS). What a browser's tabs or a
    /// proxy's clients share; more open a second connection.
    package var concurrentStreams = 250

    /// Memory that the peer's header compression may use (SETTINGS_HEADER_TABLE_SIZE). None: the
    /// requests of a connection are few, and a connection idles for hours with what it holds.
    package var headerTableBytes = 0

    /// Unsent bytes of frames after which the streams of a connection wait: a few frames of the
    /// largest size, so that one send is worth its call.
    package var outputBytes = 64 << 10

    /// Unsent bytes of answers after which the next request waits for its handler.
    package var answerBytes = 1 << 20

    /// Bytes a stream may send in one go while others of its connection wait for room.
    package var turnBytes = 16 << 10

    /// Streams that are cancelled, by either side. All streams at once and again, as when a tab
    /// closes; a rapid reset (CVE-2023-44487) goes through that in a millisecond.
    package var resets = FrameRate(burst: 500, perSecond: 50)

    /// Some clients measure the round trip with each batch they read.
    package var pings = FrameRate(burst: 200, perSecond: 20)

    /// SETTINGS frames. One opens the connection, and a change later on is rare.
    package var settings = FrameRate(burst: 20, perSecond: 1)

    /// WINDOW_UPDATE frames beyond those that were earned by reading: see ``bytesPerWindowUpdate``.
    package var windowUpdates = FrameRate(burst: 10_000, perSecond: 1000)

    /// Bytes of a body that earn its reader one WINDOW_UPDATE. Ordinary readers send two for
    /// 4 KiB and more.
    package var bytesPerWindowUpdate = 256

    /// Frames that ask for nothing: priorities, empty data. Those of unknown types are passed over
    /// for less than it costs to send them.
    package var idleFrames = FrameRate(burst: 1000, perSecond: 100)

    package init() {}

    /// How much larger than the limit a header block may decode to before the connection ends.
    /// Up to there the answer is a 431.
    static let headerBombFactor = 4
}
