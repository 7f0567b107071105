/// A stream of standard normal numbers that a seed fixes.
public protocol NoiseSource: Sendable {
    /// Draws the next numbers; successive calls continue the sequence.
    ///
    /// - Parameter shape: Sizes from 0 up; an empty shape is one number.
    /// - Returns: A tensor of that shape, of mean 0 and variance 1.
    mutating func normal(_ shape: [Int]) -> Tensor
}
