// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import HTTP1Wire
package import HTTP2Wire

/// Every limit of a listener, each with its reason.
package struct HTTPServerSettings: Sendable {
    /// Connections that wait to be accepted; the kernel cuts it to `net.core.somaxconn`. Room for
    /// the reconnects of a lost node's clients.
    package var backlog: Int32 = 4096

    /// What a request may measure: its head's parts and its body.
    package var limits = HTTP1Limits()

    /// The limits of connections that speak HTTP/2; `nil` where none may.
    package var http2: HTTP2Limits? = HTTP2Limits()

    /// Bytes that a listener holds of requests that are not whole, before it refuses to hold more:
    /// as many bodies of the largest size as one loop has reason to receive at once.
    package var heldBytes = 64 << 20

    /// From the accept, from the end of the TLS handshake, or from the first byte of a later request, to the end of the head;
    /// and from the accept to the end of the handshake.
    package var headerTimeout: Duration = .seconds(10)

    /// From the end of the head to the end of the body.
    package var bodyTimeout: Duration = .seconds(30)

    /// How long a connection may wait for its next request, and an answer for its reader. Longer
    /// than the idle timeouts of usual load balancers, so that they are the ones who close.
    package var idleTimeout: Duration = .seconds(75)

    /// How long a closing connection waits for the peer to read the answer and to close.
    package var lingerTimeout: Duration = .seconds(2)

    /// Bytes a closing connection reads and discards so that the peer reaches our answer.
    package var lingerBytes = 4 << 20

    /// Bytes the peer of an open stream may send in vain.
    package var streamInputBytes = 4096

    /// Connections accepted per turn before sockets that are already open get theirs.
    package var acceptsPerTurn = 64

    /// Steps of TLS handshakes per turn before open connections get theirs. The signature alone
    /// takes 0.25 ms of processor time with an RSA key of 2,048 bits (0.02 ms with one on P-256),
    /// so a whole fleet of clients that come back holds up the streams by milliseconds at a time.
    package var handshakesPerTurn = 16

    /// Pipelined requests of one connection answered per turn, for the same reason.
    package var requestsPerTurn = 16

    /// Connections over the limit that wait for their request so that it can be answered with 503;
    /// any more are answered at once and closed.
    package var rejectionsPending = 256

    /// How long accepting rests when descriptors or memory have run out.
    package var acceptPause: Duration = .milliseconds(100)

    /// The `Retry-After` of a rejection, in seconds.
    package var retryAfterSeconds = 5

    /// How exact the timeouts are.
    package var sweepInterval: Duration = .milliseconds(500)

    /// SO_SNDBUF of accepted sockets in bytes; `nil` leaves it to the kernel.
    package var sendBufferBytes: Int32?

    /// The `Server` header of every answer, or none.
    package var serverHeader: String? = "rivulet"

    package init() {}

    /// What a TLS listener agrees to speak (ALPN, RFC 7301), the preferred first.
    package var applicationProtocols: [String] {
        (http2 == nil ? [] : ["h2"]) + ["http/1.1", "http/1.0"]
    }
}
