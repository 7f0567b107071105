import KDNumerics

/// How a pipeline works.
public struct PipelineOptions: Sendable, Equatable {
    /// Load each model only while it is used, for the price of loading it again for every picture.
    public var reducedMemory: Bool

    public init(reducedMemory: Bool = false) {
        self.reducedMemory = reducedMemory
    }
}

/// A bundle that draws.
///
/// One pipeline does one thing at a time: whoever calls it while it draws or loads waits for its
/// turn, in the order of the calls; a waiting call can be cancelled.
public actor DiffusionPipeline {
    /// What it draws with.
    public nonisolated let bundle: ModelBundle
    /// How it works.
    public nonisolated let options: PipelineOptions

    private let components: Components
    private let planner: Planner
    private let turns = Turns()
    private var samplers = SamplerStore()

    /// Makes a pipeline; no model is loaded yet.
    ///
    /// - Parameters:
    ///   - bundle: What to draw with.
    ///   - engine: What runs its models.
    ///   - options: How it works.
    /// - Throws: `TokenizerError` where a tokenizer of the bundle cannot be read; what the engine
    ///   throws.
    public init(
        bundle: ModelBundle, engine: any ModelEngine, options: PipelineOptions = .init()
    ) throws {
        self.bundle = bundle
        self.options = options
        components = try Components(bundle: bundle, engine: engine, options: options)
        planner = try Planner(bundle: bundle)
    }

    /// Loads every model once and frees it again, so that the system prepares and caches them.
    ///
    /// - Throws: What the engine throws; `KDError.wrongPorts`; `CancellationError`.
    public func prewarm() async throws {
        try await turns.take { try await components.prewarm() }
    }

    /// Loads the models that draw from a prompt; does nothing where memory is reduced.
    ///
    /// Without it the first picture loads them. The encoder is loaded when it is used.
    ///
    /// - Throws: What the engine throws; `KDError.wrongPorts`; `CancellationError`.
    public func load() async throws {
        try await turns.take { try await components.load() }
    }

    /// Frees all models, after what is being drawn; the next picture loads them again.
    public func unload() async {
        await turns.takeAlways { await components.unload() }
    }

    /// Fills in what a request leaves open and checks it against the bundle.
    ///
    /// A random seed is another one in every plan.
    ///
    /// - Throws: `KDError.request` where the bundle cannot draw this, other cases where one of its
    ///   files cannot be read; `SamplerError` where there is no table for so many steps.
    public func plan(_ request: Request) throws -> Plan {
        let plan = try planner.plan(request)
        _ = try samplers.schedule(for: plan, bundle: bundle)
        return plan
    }

    /// Draws.
    ///
    /// The work begins at once and does not wait for its consumer. Cancelling the task that
    /// iterates, or dropping the stream, stops it after the model call that is under way and frees
    /// what was loaded for reduced memory; then the stream ends with `CancellationError`. Like
    /// every stream of Swift's, it ends at once and without an error where the task is cancelled
    /// before it asks for the next event: call `Task.checkCancellation` after the loop. `unload`
    /// returns when the work has stopped.
    ///
    /// - Returns: The events. It throws what `plan` throws, what the engine throws,
    ///   `KDError.notFinite` where a model gave no numbers, and `CancellationError`.
    public nonisolated func generate(
        _ request: Request
    ) -> AsyncThrowingStream<GenerationEvent, any Error> {
        supervisedStream { report in try await self.draw(request, report: report) }
    }

    private func draw(
        _ request: Request, report: @Sendable (GenerationEvent) -> Void
    ) async throws {
        try await turns.take {
            let plan = try planner.plan(request)
            let schedule = try samplers.schedule(for: plan, bundle: bundle)
            report(.started(plan))
            let drawing = Drawing(
                plan: plan, schedule: schedule, manifest: bundle.manifest, components: components,
                tokenizers: planner.tokenizers)
            report(.finished(try await drawing.run(report: report), plan))
        }
    }
}
