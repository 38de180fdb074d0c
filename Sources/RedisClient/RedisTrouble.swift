// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Dependability
import PosixIO

extension Trouble {
    /// An answer that takes longer than this is trouble, though it comes.
    static let slowAfter: Duration = .milliseconds(500)

    /// What a failure says about the server, in words that an operator can act on.
    init(_ error: RedisError) {
        let (word, advice): (String, String) =
            switch error.code {
            case .timedOut: ("silent", "Redis takes connections and does not answer")
            case .tlsFailed: ("tls_failed", "check redis.url and redis.tls_authority")
            case .protocolViolated: ("not_redis", "what listens there does not speak as Redis does")
            case .loading: ("loading", "Redis reads its data back and answers after that")
            case .masterDown: ("master_down", "a replica has lost its primary")
            case .readOnly: ("read_only", "a replica; redis.url has to lead to the primary")
            case .noAuthentication, .wrongPassword:
                ("refused", "check redis.username and redis.password")
            case .noPermission: ("refused", "the access list of the user forbids what is needed")
            case .outOfMemory:
                ("out_of_memory", "Redis is full: raise maxmemory, or shorten history.*")
            case .busy: ("busy", "a script of somebody runs for too long; SCRIPT KILL ends it")
            case .settingInvalid: ("misconfigured", "check redis.url")
            default: ("unreachable", "Redis cannot be reached")
            }
        self.init(word, "\(advice): \(error.detail)")
    }

    static func slow(_ latency: Duration) -> Trouble {
        Trouble("slow", "an answer of Redis took \(latency.wholeMilliseconds) ms")
    }
}

extension RedisError.Code {
    /// True for an answer of a server that is there and does not do what it is asked, whatever it
    /// is asked.
    var isRefusal: Bool {
        switch self {
        case .loading, .masterDown, .readOnly, .noAuthentication, .wrongPassword, .noPermission,
            .outOfMemory, .busy:
            true
        default: false
        }
    }
}
