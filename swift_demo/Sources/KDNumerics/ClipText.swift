import Foundation

/// What CLIP's tokenizer does to text before it cuts it into words.
enum ClipText {
    /// Composed characters (NFC), every run of white space as one space, lower case.
    ///
    /// Characters become lower case one by one, so a sigma at the end of a word is like any other.
    static func normalized(_ text: some Collection<Unicode.Scalar>) -> [Unicode.Scalar] {
        lowercased(collapsed(composed(text)))
    }

    private static func composed(_ text: some Collection<Unicode.Scalar>) -> [Unicode.Scalar] {
        // Below U+0300 nothing combines.
        if text.allSatisfy({ $0.value < 0x300 }) { return Array(text) }
        let string = String(String.UnicodeScalarView(text))
        return Array(string.precomposedStringWithCanonicalMapping.unicodeScalars)
    }

    private static func collapsed(_ text: [Unicode.Scalar]) -> [Unicode.Scalar] {
        var result: [Unicode.Scalar] = []
        var inside = false
        for scalar in text {
            let space = scalar.properties.isWhitespace
            if !space { result.append(scalar) } else if !inside { result.append(" ") }
            inside = space
        }
        return result
    }

    private static func lowercased(_ text: [Unicode.Scalar]) -> [Unicode.Scalar] {
        var result: [Unicode.Scalar] = []
        result.reserveCapacity(text.count)
        for scalar in text {
            if scalar.isASCII {
                let capital = scalar.value >= 65 && scalar.value <= 90
                result.append(capital ? Unicode.Scalar(UInt8(scalar.value + 32)) : scalar)
            } else {
                result += scalar.properties.lowercaseMapping.unicodeScalars
            }
        }
        return result
    }
}

extension Unicode.Scalar {
    /// What the words of CLIP and GPT-2 are told apart by.
    enum Kind {
        case letter, number, space, other
    }

    /// By the general category, as the classes of regular expressions have it.
    var kind: Kind {
        if isASCII {
            switch value {
            case 65...90, 97...122: return .letter
            case 48...57: return .number
            case 9...13, 32: return .space
            default: return .other
            }
        }
        switch properties.generalCategory {
        case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter:
            return .letter
        case .decimalNumber, .letterNumber, .otherNumber:
            return .number
        default:
            return properties.isWhitespace ? .space : .other
        }
    }
}
