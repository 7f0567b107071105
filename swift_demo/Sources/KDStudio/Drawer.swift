import KDDiffusion

/// What draws for the app: a pipeline, or something that stands in for it in tests.
public protocol Drawer: Sendable {
    /// Gets ready to draw, so that the first picture does not wait for it.
    func prepare() async throws
    /// Frees what takes memory; the next picture loads it again.
    func unload() async
    /// Draws; see `DiffusionPipeline.generate`.
    func generate(_ request: Request) -> AsyncThrowingStream<GenerationEvent, any Error>
}

extension DiffusionPipeline: Drawer {
    /// Loads the models; where memory is reduced, each of them once, so that none is compiled while
    /// a picture is drawn.
    public func prepare() async throws {
        if options.reducedMemory {
            try await prewarm()
        } else {
            try await load()
        }
    }
}
