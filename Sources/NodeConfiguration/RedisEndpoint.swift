// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// Where a Redis server is, read from its URL.
package enum RedisEndpoint: Sendable, Equatable {
    case tcp(host: String, port: UInt16, database: Int)
    case unix(path: String, database: Int)

    package var database: Int {
        switch self {
        case .tcp(_, _, let database), .unix(_, let database): database
        }
    }
}
