// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

/// The fields to take from every event, one column each: `camera_id`, `payload.zone.id`.
///
/// A path names the keys from the event's outermost object inwards, separated by dots, so a key
/// that holds a dot itself cannot be named. The same path may be given twice and then makes two
/// columns with equal values.
package struct JSONFieldPaths: Sendable, Equatable {
    private let paths: [String]

    /// Checks `dottedPaths`.
    ///
    /// - Throws: ``JSONFieldsError`` that names the path and the rule of ``JSONFieldLimits`` that
    ///   it breaks.
    package init(_ dottedPaths: [String]) throws(JSONFieldsError) {
        guard dottedPaths.count <= JSONFieldLimits.paths else {
            throw JSONFieldsError(
                .tooManyPaths,
                "\(dottedPaths.count) fields; up to \(JSONFieldLimits.paths) are possible"
            )
        }
        for path in dottedPaths { try Self.check(path) }
        paths = dottedPaths
    }

    package var count: Int { paths.count }

    package subscript(column: Int) -> String { paths[column] }

    private static func check(_ path: String) throws(JSONFieldsError) {
        guard path.utf8.count <= JSONFieldLimits.pathBytes else {
            throw JSONFieldsError(
                .pathTooLong,
                "field \"\(path.prefix(40))...\" has \(path.utf8.count) bytes; up to "
                    + "\(JSONFieldLimits.pathBytes) are possible"
            )
        }
        let segments = path.utf8.split(
            separator: UInt8(ascii: "."),
            omittingEmptySubsequences: false
        )
        guard segments.count <= JSONFieldLimits.segments else {
            throw JSONFieldsError(
                .tooManySegments,
                "field \"\(path)\" names \(segments.count) keys; up to "
                    + "\(JSONFieldLimits.segments) are possible"
            )
        }
        guard segments.allSatisfy({ !$0.isEmpty }) else {
            throw JSONFieldsError(
                .segmentEmpty,
                "field \"\(path)\" names an empty key; write keys separated by single dots"
            )
        }
    }
}
