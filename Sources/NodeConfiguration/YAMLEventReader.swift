// Copyright the Rivulet authors. Licensed under the Apache License, Version 2.0; see LICENSE.
// SPDX-License-Identifier: Apache-2.0

import CYAML

/// One step of a YAML document (YAML 1.1, chapter 3: the serialization's events).
enum YAMLEvent {
    case streamStart
    case streamEnd
    case documentStart
    case documentEnd
    case alias(String)
    case scalar(String, isPlain: Bool, anchor: String?, tag: String?)
    case sequenceStart(anchor: String?, tag: String?)
    case sequenceEnd
    case mappingStart(anchor: String?, tag: String?)
    case mappingEnd
}

/// Why libyaml could not go on.
struct YAMLProblem: Error {
    let text: String
    let mark: YAMLNode.Mark
}

/// Reads the events of one document with libyaml's parser.
///
/// The caller keeps `bytes` in place for as long as the value lives: libyaml reads from there.
@safe
struct YAMLEventReader: ~Copyable {
    private let parser: UnsafeMutablePointer<yaml_parser_t>
    private let bytes: UnsafeBufferPointer<UInt8>

    init(_ bytes: UnsafeBufferPointer<UInt8>) throws(YAMLProblem) {
        let parser = UnsafeMutablePointer<yaml_parser_t>.allocate(capacity: 1)
        unsafe parser.initialize(to: yaml_parser_t())
        guard unsafe yaml_parser_initialize(parser) == 1 else {
            unsafe parser.deallocate()
            throw YAMLProblem(text: "no memory for a parser", mark: .init(line: 1, column: 1))
        }
        unsafe yaml_parser_set_input_string(parser, bytes.baseAddress, bytes.count)
        // Otherwise two bytes could turn the document into UTF-16.
        unsafe yaml_parser_set_encoding(parser, YAML_UTF8_ENCODING)
        unsafe self.parser = parser
        unsafe self.bytes = bytes
    }

    deinit {
        unsafe yaml_parser_delete(parser)
        unsafe parser.deallocate()
    }

    mutating func next() throws(YAMLProblem) -> (event: YAMLEvent, mark: YAMLNode.Mark) {
        var event = unsafe yaml_event_t()
        guard unsafe yaml_parser_parse(parser, &event) == 1 else { throw problem() }
        defer { unsafe yaml_event_delete(&event) }
        let mark = unsafe Self.mark(event.start_mark)
        return (unsafe Self.translated(event), mark)
    }

    private static func translated(_ event: yaml_event_t) -> YAMLEvent {
        switch unsafe event.type {
        case YAML_STREAM_START_EVENT: return .streamStart
        case YAML_DOCUMENT_START_EVENT: return .documentStart
        case YAML_DOCUMENT_END_EVENT: return .documentEnd
        case YAML_ALIAS_EVENT: return .alias(unsafe text(event.data.alias.anchor) ?? "")
        case YAML_SCALAR_EVENT:
            let scalar = unsafe event.data.scalar
            // The length and not the zero: a text may hold an escaped `\0`.
            let buffer = unsafe UnsafeBufferPointer(start: scalar.value, count: scalar.length)
            return unsafe .scalar(
                String(decoding: buffer, as: UTF8.self),
                isPlain: scalar.style == YAML_PLAIN_SCALAR_STYLE,
                anchor: text(scalar.anchor),
                tag: text(scalar.tag))
        case YAML_SEQUENCE_START_EVENT:
            let start = unsafe event.data.sequence_start
            return unsafe .sequenceStart(anchor: text(start.anchor), tag: text(start.tag))
        case YAML_SEQUENCE_END_EVENT: return .sequenceEnd
        case YAML_MAPPING_START_EVENT:
            let start = unsafe event.data.mapping_start
            return unsafe .mappingStart(anchor: text(start.anchor), tag: text(start.tag))
        case YAML_MAPPING_END_EVENT: return .mappingEnd
        // After its end a stream gives only events of no type.
        default: return .streamEnd
        }
    }

    private static func text(_ bytes: UnsafeMutablePointer<yaml_char_t>?) -> String? {
        guard let bytes = unsafe bytes else { return nil }
        return unsafe String(cString: bytes)
    }

    private static func mark(_ mark: yaml_mark_t) -> YAMLNode.Mark {
        YAMLNode.Mark(line: Int(mark.line) + 1, column: Int(mark.column) + 1)
    }

    private func problem() -> YAMLProblem {
        let reason = unsafe parser.pointee.problem.map { unsafe String(cString: $0) }
        var mark = unsafe Self.mark(parser.pointee.problem_mark)
        // The reader, which checks the encoding, knows only how many bytes it had read.
        if unsafe parser.pointee.error == YAML_READER_ERROR {
            mark = self.mark(ofByte: unsafe Int(parser.pointee.problem_offset))
        }
        return YAMLProblem(text: reason ?? "no memory to read it", mark: mark)
    }

    private func mark(ofByte offset: Int) -> YAMLNode.Mark {
        var line = 1
        var column = 1
        let end = unsafe min(offset, bytes.count)
        for index in 0..<end {
            let byte = unsafe bytes[index]
            if byte == UInt8(ascii: "\n") {
                line += 1
                column = 1
            } else if byte & 0xc0 != 0x80 {  // Continuation bytes of UTF-8 are no column.
                column += 1
            }
        }
        return YAMLNode.Mark(line: line, column: column)
    }
}
