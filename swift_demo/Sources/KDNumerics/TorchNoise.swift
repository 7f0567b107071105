import Foundation

/// The numbers of `torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed))`.
///
/// diffusers draws with these, so a picture can be drawn again with the seed it was drawn with
/// there. Draws of less than 16 numbers are exact. In longer ones torch's vectorised logarithm,
/// sine and cosine are rounded a little differently: the largest deviation found is 2.4e-7 of the
/// larger of 1 and the value.
public struct TorchNoise: NoiseSource {
    // torch fills whole blocks of this many numbers, the radii in the first half, the angles in
    // the second; shorter draws take another path.
    private static let block = 16

    private var words: MersenneTwister
    private var waiting: Double?

    /// Starts as `torch.Generator("cpu").manual_seed(seed)` does; the low 32 bits count.
    public init(seed: UInt64) {
        words = MersenneTwister(seed: UInt32(truncatingIfNeeded: seed))
    }

    public mutating func normal(_ shape: [Int]) -> Tensor {
        let size = shape.reduce(1, *)
        let values = size < Self.block ? singles(size) : blocks(size)
        return Tensor(shape: shape, values: values)
    }

    private mutating func blocks(_ size: Int) -> [Float] {
        var values = uniform(size)
        let whole = size - size % Self.block
        Self.transform(&values, from: 0, to: whole)
        if whole < size {
            // torch overwrites the last 16 with fresh numbers, not just those that are left.
            let start = size - Self.block
            values.replaceSubrange(start..<size, with: uniform(Self.block))
            Self.transform(&values, from: start, to: size)
        }
        return values
    }

    private mutating func singles(_ size: Int) -> [Float] {
        (0..<size).map { _ in Float(single()) }
    }

    /// Box-Muller in 64 bits, keeping the second number for the next call.
    private mutating func single() -> Double {
        if let value = waiting {
            waiting = nil
            return value
        }
        let angle = 2.0 * Double.pi * uniform64()
        let radius = (-2.0 * log1p(-uniform64())).squareRoot()
        waiting = radius * sin(angle)
        return radius * cos(angle)
    }

    /// Numbers in [0, 1): the low 24 bits of one word each.
    private mutating func uniform(_ size: Int) -> [Float] {
        let unit = Float(sign: .plus, exponent: -24, significand: 1)
        return (0..<size).map { _ in Float(words.word() & 0xFF_FFFF) * unit }
    }

    /// One number in [0, 1): the low 53 bits of two words, the high one first.
    private mutating func uniform64() -> Double {
        let high = UInt64(words.word())
        let both = high << 32 | UInt64(words.word())
        return Double(both & (1 << 53 - 1)) * Double(sign: .plus, exponent: -53, significand: 1)
    }

    /// Turns whole blocks of uniform numbers into normal ones.
    private static func transform(_ values: inout [Float], from start: Int, to end: Int) {
        let turn = Float(2 * Double.pi)
        let half = block / 2
        for first in stride(from: start, to: end, by: block) {
            for index in first..<(first + half) {
                // In 64 bits, so that every machine rounds alike; only the angle is rounded
                // first, as torch does.
                let radius = (-2.0 * log1p(-Double(values[index]))).squareRoot()
                let angle = Double(turn * values[index + half])
                values[index] = Float(radius * cos(angle))
                values[index + half] = Float(radius * sin(angle))
            }
        }
    }
}
