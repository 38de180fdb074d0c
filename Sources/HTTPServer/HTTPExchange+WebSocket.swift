// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import HTTP1Wire
import Reactor
package import WebSocketWire

/// A WebSocket that a request has become.
package struct UpgradedStream {
    package let stream: ByteStream
    /// What was agreed on for compressed messages; `nil` where they are not to be.
    package let deflate: PerMessageDeflate?
}

extension HTTPExchange {
    /// Answers a request for a WebSocket: with 101 where it is one, else with a problem.
    ///
    /// The stream carries frames in both directions from then on; what they mean is the
    /// observer's. No subprotocol is agreed on. Only HTTP/1.1 can do this: over HTTP/2 the request is
    /// refused.
    ///
    /// - Parameter deflates: permessage-deflate is agreed on with a client that offers it.
    /// - Returns: `nil` where the request was refused, or the client has gone. The observer hears
    ///   nothing then.
    package func upgradeToWebSocket(
        _ request: HTTPRequest, deflates: Bool = false, observer: any ByteStreamObserver
    ) -> UpgradedStream? {
        let head = request.head
        do throws(WebSocketError) {
            let connection = answering as? HTTP1Connection
            let isPossible =
                connection != nil && head.method == .get && head.version == .oneOne
            let accept = try WebSocketHandshake.accept(
                asksForWebSocket: isPossible
                    && head.headers.contains("Upgrade", token: "websocket"),
                asksForUpgrade: head.headers.contains("Connection", token: "upgrade"),
                versions: head.headers.all("Sec-WebSocket-Version"),
                keys: head.headers.all("Sec-WebSocket-Key"))
            // Read in any case: a malformed offer fails the handshake, wanted or not.
            let offered = try PerMessageDeflate(
                offers: head.headers.all("Sec-WebSocket-Extensions"))
            let deflate = deflates ? offered : nil
            var headers = [
                ("Upgrade", "websocket"), ("Connection", "Upgrade"),
                ("Sec-WebSocket-Accept", accept),
            ]
            if let deflate { headers.append(("Sec-WebSocket-Extensions", deflate.answer)) }
            becomeAnswered()
            let stream = connection?.openUpgraded(headers: headers, observer: observer)
            return stream.map { UpgradedStream(stream: $0, deflate: deflate) }
        } catch {
            refuseWebSocket(error)
            return nil
        }
    }

    private func refuseWebSocket(_ error: WebSocketError) {
        switch error.code {
        case .notAnUpgrade, .versionUnsupported:
            // What would do is said in headers too (RFC 6455, section 4.4; RFC 9110, section 7.8).
            // HTTP/2 has no such headers (RFC 9113, section 8.2.2).
            let upgrade =
                answering is HTTP1Connection
                ? [("Upgrade", "websocket"), ("Connection", "Upgrade")] : []
            respond(
                ProblemDetails(status: 426, detail: error.detail),
                headers: upgrade + [("Sec-WebSocket-Version", WebSocketHandshake.version)])
        case .digestUnavailable, .outOfMemory:
            respond(ProblemDetails(status: 500, detail: error.detail))
        case .extensionsMalformed:
            refuse(error, parameter: "Sec-WebSocket-Extensions")
        case .keyMalformed, .frameMalformed, .textNotUTF8, .deflateMalformed, .messageTooLarge:
            refuse(error, parameter: "Sec-WebSocket-Key")
        }
    }

    private func refuse(_ error: WebSocketError, parameter: String) {
        respond(ProblemDetails(status: 400, detail: error.detail, parameter: parameter))
    }
}

extension HTTP1Connection {
    /// Leaves HTTP: answers 101, and hands what the peer sends to `observer` from here on.
    func openUpgraded(headers: [(String, String)], observer: any ByteStreamObserver)
        -> ByteStream?
    {
        listener.loop.requireCurrent()
        guard phase == .answering else { return nil }
        listener.metrics.countRequest(methodIndex: methodIndex, status: 101)
        let head = ResponseHead(
            status: 101, headers: headers, server: listener.settings.serverHeader)
        // A client that does not wait for the answer has sent its first frames already.
        let early = partial?.unreadBytes ?? []
        flags.insert(.isUpgraded)
        guard beginStream(head.bytes, observer: observer) else { return nil }
        if !early.isEmpty {
            listener.loop.atEndOfTurn(EarlyInput(early, of: self, observer: observer))
        }
        return self
    }
}

/// What a client sent behind its request for another protocol, on its way to the observer, who
/// gets it once it has its stream.
private final class EarlyInput: EndOfTurnWork {
    private let bytes: [UInt8]
    private let connection: HTTP1Connection
    private let observer: any ByteStreamObserver

    init(_ bytes: [UInt8], of connection: HTTP1Connection, observer: any ByteStreamObserver) {
        self.bytes = bytes
        self.connection = connection
        self.observer = observer
    }

    func runAtEndOfTurn() {
        guard connection.phase == .streaming else { return }
        let bytes = bytes
        observer.stream(connection, received: bytes.span)
    }
}
