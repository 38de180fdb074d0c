// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import Bytes

/// The channels of a server, as a table.
enum ChannelListing {
    /// Where a node lists its channels.
    static let target = "/api/v1/channels"
    /// A channel of a page is a kilobyte; a node has hundreds at most.
    static let bodyBytesMax = 4 << 20

    private static let textBytes = 200

    /// The lines for the list that `document` holds: an array of objects with `name` and perhaps
    /// `description` and `topics`, alone or as the member `channels`. `nil` where it is none.
    static func lines(_ document: JSONValue, server: ServerURL, style: TerminalStyle) -> [String]? {
        let list = document["channels"] ?? document
        guard case .array(let channels) = list else { return nil }
        var rows: [(name: String, rest: String)] = []
        for channel in channels {
            guard let name = channel["name"]?.text else { return nil }
            var rest = PeerText.display(channel["description"]?.text ?? "", limit: textBytes)
            let topics = channel["topics"]?.elements.compactMap(\.text) ?? []
            if !topics.isEmpty {
                let shown = topics.map { PeerText.display($0) }
                rest += (rest.isEmpty ? "" : " ") + style(.dim, "(\(Tabulation.list(shown)))")
            }
            rows.append((PeerText.display(name), rest))
        }
        guard let first = rows.first else { return ["\(server.text): no channels"] }
        let width = rows.map(\.name.count).max() ?? 0
        var lines = rows.map { row in
            let gap = String(repeating: " ", count: width - row.name.count + 2)
            return style(.bold, row.name) + (row.rest.isEmpty ? "" : gap + row.rest)
        }
        let example = server.with(target: "/api/v1/sse/\(first.name)")
        lines.append("\nfollow one: rivulet tail \(example.text)")
        return lines
    }
}
