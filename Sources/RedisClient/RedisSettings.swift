// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

package import TLSEngine

/// Where a Redis server listens.
package enum RedisAddress: Sendable, Hashable, CustomStringConvertible {
    /// A name, which is resolved again at each connect, or a numeric address.
    case tcp(host: String, port: UInt16)
    /// The path of a Unix-domain socket.
    case unix(path: String)

    package var description: String {
        switch self {
        case .tcp(let host, let port): host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
        case .unix(let path): "unix:\(path)"
        }
    }
}

/// How to reach one Redis server, and the bounds a connection to it keeps.
///
/// The password appears in no description.
package struct RedisSettings: Sendable, CustomStringConvertible, CustomDebugStringConvertible {
    package var address: RedisAddress
    /// The ACL user (Redis 6); `nil` for the default user.
    package var username: String?
    package var password: String?
    package var database = 0
    /// Encrypts the connection, always or not at all: without a ``tls`` none is made then.
    package var usesTLS = false
    /// Whom to trust where ``usesTLS``; the server's certificate has to be for the host of
    /// ``address``.
    package var tls: TLSClientContext?
    /// What `CLIENT LIST` shows; no spaces.
    package var clientName: String?

    /// From the start of an attempt until the connection is ready: name resolution, connect, AUTH
    /// and the rest.
    package var connectTimeout: Duration = .seconds(2)
    /// The deadline of a command that names none. Every command has one: a peer that takes no
    /// notice would otherwise hold its caller for as long as TCP likes.
    package var commandTimeout: Duration = .seconds(2)
    /// A connection with nothing to do is asked for a PONG this often, so that a dead peer is
    /// found before the next command needs it.
    package var idlePingInterval: Duration = .seconds(3)
    /// The shortest pause before an attempt to connect.
    package var reconnectDelayMin: Duration = .milliseconds(50)
    /// The bound that the pause doubles up to; each pause is drawn evenly from below it.
    package var reconnectDelayMax: Duration = .seconds(2)

    /// The payload bytes one reply may hold; what is larger ends the connection.
    package var replyBytesMax = 64 << 20
    /// The values one reply may hold, arrays included; each takes 24 bytes of memory here.
    package var replyElementsMax = 1 << 20
    /// Commands that may wait for replies at once; more are refused with `pipelineFull`.
    package var pipelineDepthMax = 65_536
    /// Bytes of commands that may wait for replies at once.
    package var pipelineBytesMax = 64 << 20

    package init(address: RedisAddress) { self.address = address }

    package init(url: RedisURL) {
        address = url.address
        username = url.username
        password = url.password
        database = url.database
        usesTLS = url.usesTLS
    }

    package var description: String { "redis \(address) database \(database)" }
    package var debugDescription: String { description }
}
