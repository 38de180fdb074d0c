// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import HTTP1Wire
package import PosixIO

/// One request, whole and within the limits.
package struct HTTPRequest {
    package let head: HTTP1RequestHead
    package let body: [UInt8]
    package let peer: SocketAddress
}

/// Whoever answers requests. Called on the listener's loop.
package protocol HTTPRequestHandler: AnyObject {
    /// Answers `request` through `exchange`, now or later on the same loop.
    func handle(_ request: HTTPRequest, _ exchange: HTTPExchange)
}

/// Answers one request, exactly once.
///
/// View: connection. Threads: its loop's. Answering twice is a mistake of the program and traps;
/// answering a client that has gone meanwhile does nothing. An exchange that is dropped without
/// an answer answers 500 and closes the connection.
package final class HTTPExchange {
    let answering: any RequestAnswering
    private var isAnswered = false

    init(_ answering: any RequestAnswering) { self.answering = answering }

    deinit {
        if !isAnswered { answering.exchangeWasDropped() }
    }

    /// True once the connection or the request's stream has closed, so that nobody would read an
    /// answer.
    package var clientHasGone: Bool { answering.clientHasGone }

    /// Answers with `body`, and with its length as `Content-Length`. To HEAD the same head goes
    /// out without the body.
    ///
    /// - Parameter headers: All but `Content-Length`, `Connection`, `Date` and `Server`, which
    ///   are the connection's. A name is the program's own; a value may hold what a peer gave,
    ///   for its control characters become blanks.
    package func respond(status: Int, headers: [(String, String)] = [], body: [UInt8] = []) {
        becomeAnswered()
        answering.respond(status: status, headers: headers, body: body)
    }

    /// Answers with a problem document (RFC 9457), under the status that it names.
    package func respond(_ problem: ProblemDetails, headers: [(String, String)] = []) {
        respond(
            status: problem.status,
            headers: [("Content-Type", ProblemDetails.mediaType)] + headers,
            body: problem.json)
    }

    /// Answers with a head and leaves the body to the caller, for as long as both sides like.
    ///
    /// Over HTTP/1.1 the end of the connection delimits the body (RFC 9112, section 6.3): without
    /// chunks around them the same bytes can go to every stream.
    ///
    /// - Parameter writesAtOnce: The caller writes to the stream before the turn is over, so the
    ///   head may wait for that. What never comes holds it up for a fifth of a second.
    /// - Returns: `nil` where no body will be read: the request was HEAD, or the client has gone.
    ///   The observer hears nothing then.
    package func openStream(
        status: Int = 200, headers: [(String, String)], observer: any ByteStreamObserver,
        writesAtOnce: Bool = false
    ) -> ByteStream? {
        becomeAnswered()
        return answering.openStream(
            status: status, headers: headers, observer: observer, writesAtOnce: writesAtOnce)
    }

    func becomeAnswered() {
        precondition(!isAnswered, "a request is answered twice")
        isAnswered = true
    }
}
