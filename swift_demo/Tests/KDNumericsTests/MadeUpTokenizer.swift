import Foundation
import XCTest

@testable import KDNumerics

/// Tests of tokenizers whose `tokenizer.json` is made up, whole or with something changed.
class MadeUpTokenizerTestCase: XCTestCase {
    static let words = #"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"#

    /// A tokenizer with the merges a+b, ab+c</w>, c+c; the ids of bytes are the bytes, and 256 more
    /// at the end of a word.
    func stored() -> [String: Any] {
        let letters = ByteSymbols.characters.map { String($0) }
        let tokens =
            letters + letters.map { $0 + "</w>" } + ["ab", "abc</w>", "cc"]
        var vocabulary = Dictionary(uniqueKeysWithValues: tokens.enumerated().map { ($1, $0) })
        vocabulary["<|startoftext|>"] = 600
        vocabulary["<|endoftext|>"] = 601
        return [
            "added_tokens": [
                added("<|startoftext|>", 600, true), added("<|endoftext|>", 601, false),
            ],
            "normalizer": [
                "type": "Sequence",
                "normalizers": [
                    ["type": "NFC"],
                    ["type": "Replace", "pattern": ["Regex": #"\s+"#], "content": " "],
                    ["type": "Lowercase"],
                ],
            ] as [String: Any],
            "pre_tokenizer": [
                "type": "Sequence",
                "pretokenizers": [
                    [
                        "type": "Split", "pattern": ["Regex": Self.words], "behavior": "Removed",
                        "invert": true,
                    ] as [String: Any],
                    ["type": "ByteLevel", "add_prefix_space": false],
                ],
            ] as [String: Any],
            "decoder": ["type": "ByteLevel"],
            "model": [
                "type": "BPE", "unk_token": "<|endoftext|>", "end_of_word_suffix": "</w>",
                "vocab": vocabulary, "merges": [["a", "b"], ["ab", "c</w>"], ["c", "c"]],
            ] as [String: Any],
        ]
    }

    private func added(_ content: String, _ id: Int, _ normalized: Bool) -> [String: Any] {
        [
            "id": id, "content": content, "normalized": normalized, "single_word": false,
            "lstrip": false, "rstrip": false, "special": true,
        ]
    }

    func write(_ data: Data) throws -> URL {
        let file = FileManager.default.temporaryDirectory
            .appendingPathComponent("\(UUID().uuidString).json")
        try data.write(to: file)
        addTeardownBlock { try? FileManager.default.removeItem(at: file) }
        return file
    }

    func load(_ stored: [String: Any], maxLength: Int = 8) throws -> ClipTokenizer {
        let file = try write(JSONSerialization.data(withJSONObject: stored))
        return try ClipTokenizer(file: file, maxLength: maxLength, bos: 600, eos: 601, pad: 601)
    }

    /// Changes what lies at a path of keys and places.
    private func changed(_ value: Any, _ path: ArraySlice<String>, _ new: Any?) -> Any? {
        guard let key = path.first else { return new }
        if var object = value as? [String: Any] {
            object[key] = changed(object[key] ?? [String: Any](), path.dropFirst(), new)
            return object
        }
        guard var list = value as? [Any], let place = Int(key) else { return nil }
        list[place] = changed(list[place], path.dropFirst(), new) ?? NSNull()
        return list
    }

    func stored(_ path: String, _ new: Any?) throws -> [String: Any] {
        let keys = path.split(separator: "/").map(String.init)[...]
        return try XCTUnwrap(changed(stored(), keys, new) as? [String: Any])
    }
}
