// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import PosixIO

/// Loopback ports for servers of tests.
package enum FreePort {
    /// Below the range that the kernel takes for outgoing connections, so that nothing takes the
    /// port while its server is down.
    private static let candidates: Range<UInt16> = 20_000..<32_000

    /// A port that nobody listens on; `nil` where none is found.
    package static func choose() -> UInt16? {
        for _ in 0..<200 {
            let port = UInt16.random(in: candidates)
            let address = SocketAddress.loopback(port: port)
            do throws(Errno) {
                let listener = try StreamSocket.listen(on: address, backlog: 1, sharesPort: false)
                try listener.close()
                return port
            } catch { continue }
        }
        return nil
    }
}
