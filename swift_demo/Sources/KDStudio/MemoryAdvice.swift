import KDDiffusion

/// Whether a bundle's models are likely to fit into memory together.
///
/// An estimate that was never compared with a device: models take about the bytes of their files,
/// and as much again as the largest of them for what they compute.
public struct MemoryAdvice: Sendable, Equatable {
    /// All models in memory at once, in bytes.
    public let together: Int
    /// The largest model alone, in bytes.
    public let largest: Int

    /// Adds up the files of a bundle.
    public init(_ manifest: Manifest) {
        // The encoder is loaded only for pictures that begin with another one.
        let sizes = manifest.components.filter { $0.role != .vaeEncoder }
            .map { manifest.bytes(of: $0) }
        together = sizes.reduce(0, +)
        largest = sizes.max() ?? 0
    }

    /// Whether it is wise to hold one model in memory at a time.
    ///
    /// - Parameter reading: The memory there is; nil where the system does not tell.
    public func suggestsReducedMemory(_ reading: MemoryReading?) -> Bool {
        guard let available = reading?.available else { return false }
        return available < together + largest
    }
}
