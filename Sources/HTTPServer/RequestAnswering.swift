// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// What an exchange answers through: the side of a connection that one request has to do with.
///
/// View: connection. Threads: its loop's.
protocol RequestAnswering: AnyObject {
    /// Nobody would read an answer.
    var clientHasGone: Bool { get }

    func respond(status: Int, headers: [(String, String)], body: [UInt8])

    func openStream(
        status: Int, headers: [(String, String)], observer: any ByteStreamObserver,
        writesAtOnce: Bool
    ) -> ByteStream?

    /// The handler forgot the request, or was torn down with it.
    func exchangeWasDropped()
}
