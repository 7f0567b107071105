import Foundation

/// Reads options and their values from the words of a command line.
struct WordReader {
    /// The words that are neither options nor their values.
    private(set) var places: [String] = []
    private var rest: ArraySlice<String>
    private var option = ""
    // What stands behind the equals sign of `--option=value`.
    private var attached: String?

    init(_ words: [String]) {
        rest = words[...]
    }

    /// The next option, after putting what stands before it in `places`; nil at the end.
    ///
    /// After `--` no word is an option; neither is a single `-` nor a negative number.
    mutating func nextOption() throws -> String? {
        if attached != nil { throw UsageError.noValue(option) }
        while let word = rest.popFirst() {
            if word == "--" {
                places += rest
                rest = []
            } else if word.hasPrefix("--"), let equals = word.firstIndex(of: "=") {
                option = String(word[..<equals])
                attached = String(word[word.index(after: equals)...])
                return option
            } else if word.hasPrefix("-"), word != "-", Double(word) == nil {
                option = word
                return option
            } else {
                places.append(word)
            }
        }
        return nil
    }

    /// The option's next value.
    mutating func text() throws -> String {
        if let value = attached {
            attached = nil
            return value
        }
        guard let value = rest.popFirst() else { throw UsageError.missingValue(option) }
        return value
    }

    /// The option's next value as a file's path.
    mutating func file() throws -> URL {
        let path = try text()
        if path.isEmpty { throw UsageError.value(option, path, expected: "a path") }
        return URL(fileURLWithPath: path)
    }

    /// The option's next value as a number of the type that is wanted.
    mutating func number<Number: LosslessStringConvertible & Numeric>() throws -> Number {
        let word = try text()
        guard let number = Number(word) else {
            let isWhole = Number(exactly: 1) is any BinaryInteger
            throw UsageError.value(
                option, word, expected: isWhole ? "a whole number that fits" : "a number")
        }
        return number
    }

    /// The option's next value as one of those that a type has.
    mutating func choice<Choice>() throws -> Choice
    where Choice: RawRepresentable<String> & CaseIterable {
        let word = try text()
        guard let choice = Choice(rawValue: word) else {
            let names = Choice.allCases.map(\.rawValue).joined(separator: ", ")
            throw UsageError.value(option, word, expected: "one of \(names)")
        }
        return choice
    }

    /// True, for an option without a value.
    func flag() throws -> Bool {
        if attached != nil { throw UsageError.noValue(option) }
        return true
    }
}
