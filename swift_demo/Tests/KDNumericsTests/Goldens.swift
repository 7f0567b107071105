import Foundation
import KDNumerics
import XCTest

/// The reference values that `scripts/swift_goldens.py` writes.
enum Goldens {
    /// An array in a file of raw numbers.
    struct Slice: Decodable {
        let shape: [Int]
        let first: Int

        var range: Range<Int> { first..<(first + shape.reduce(1, *)) }
    }

    /// The folder; skips the test where there is none.
    static func folder() throws -> URL {
        guard let path = ProcessInfo.processInfo.environment["KD_GOLDENS"] else {
            throw XCTSkip(
                "There are no reference values; run scripts/swift_test, which makes them.")
        }
        return URL(fileURLWithPath: path, isDirectory: true)
    }

    /// The contents of a JSON file.
    static func read<Value: Decodable>(_ type: Value.Type, _ name: String) throws -> Value {
        let file = try folder().appendingPathComponent(name)
        return try JSONDecoder().decode(type, from: Data(contentsOf: file))
    }

    /// The contents of a file of bytes.
    static func bytes(_ name: String) throws -> [UInt8] {
        Array(try Data(contentsOf: try folder().appendingPathComponent(name)))
    }

    /// Says how much was compared; scripts/swift_test adds the numbers up.
    static func checked(_ count: Int, _ what: String) {
        print("checked \(count) \(what)")
    }
}

/// A file of raw 32-bit numbers.
struct Floats {
    let values: [Float]

    init(_ name: String) throws {
        let bytes = try Goldens.bytes(name)
        values = bytes.withUnsafeBytes { raw in
            (0..<(raw.count / 4)).map { place in
                let bits = raw.loadUnaligned(fromByteOffset: 4 * place, as: UInt32.self)
                return Float(bitPattern: UInt32(littleEndian: bits))
            }
        }
    }

    func tensor(_ slice: Goldens.Slice) -> Tensor {
        Tensor(shape: slice.shape, values: Array(values[slice.range]))
    }
}

/// The largest difference of two tensors, each divided by what `scale` makes of the expected value.
func deviation(
    _ actual: Tensor, _ expected: Tensor, scale: (Float) -> Float = { _ in 1 }
) -> Float {
    zip(actual.values, expected.values).reduce(0) { worst, pair in
        max(worst, abs(pair.0 - pair.1) / scale(pair.1))
    }
}
