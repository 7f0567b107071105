import Dispatch
import Foundation
import KDDiffusion
import KDNumerics

/// One model of a bundle in Core ML, loaded when it is first needed.
///
/// Core ML blocks the thread that loads or runs a model, so each runner works on a serial queue of
/// its own instead of the few threads that all tasks share.
public actor CoreMLRunner: ModelRunner {
    /// The `.mlpackage` or `.mlmodelc`.
    public nonisolated let file: URL
    /// What it runs on.
    public nonisolated let units: ComputeUnits

    private let source: ModelSource
    private var model: LoadedModel?

    #if canImport(Darwin)
        private let queue = DispatchSerialQueue(label: "kdexport.coreml.model")

        public nonisolated var unownedExecutor: UnownedSerialExecutor {
            queue.asUnownedSerialExecutor()
        }
    #endif

    init(file: URL, source: ModelSource, units: ComputeUnits) {
        self.file = file
        self.source = source
        self.units = units
    }

    /// Compiles the model where that was not done before, and loads it.
    ///
    /// - Throws: `CoreMLError`; `CancellationError` where the task was cancelled meanwhile.
    public func load() async throws {
        if model != nil { return }
        let compiled = try await source.compiled()
        try Task.checkCancellation()
        // While this waited, another call may have loaded it.
        if model != nil { return }
        do {
            model = try open(compiled)
        } catch let error as CoreMLError {
            // The system may have emptied parts of the cache.
            guard case .notLoaded = error, await source.distrust() else { throw error }
            let again = try await source.compiled()
            if model == nil { model = try open(again) }
        }
    }

    /// Frees the model.
    public func unload() { model = nil }

    /// The names of what the model takes and gives, in alphabetical order; loads it first.
    public func ports() async throws -> ModelPorts {
        try await loaded().ports
    }

    /// Runs the model once; loads it first.
    ///
    /// - Parameter inputs: What it takes, by name; more does no harm.
    /// - Throws: `CoreMLError`; `CancellationError` where the task was cancelled before Core ML
    ///   began.
    public func run(_ inputs: [String: Tensor]) async throws -> [String: Tensor] {
        let model = try await loaded()
        try Task.checkCancellation()
        return try pooled { try model.run(inputs) }
    }
}

extension CoreMLRunner {
    /// What is loaded, after loading it.
    private func loaded() async throws -> LoadedModel {
        try await load()
        guard let model else {
            // It was freed between loading and this line; the caller's next call loads it again.
            throw CancellationError()
        }
        return model
    }

    private func open(_ compiled: URL) throws -> LoadedModel {
        try pooled { try LoadedModel(compiled, name: file.lastPathComponent, units: units) }
    }

    /// Frees at once what Apple's frameworks would otherwise keep until the thread is idle.
    private func pooled<Value>(_ work: () throws -> Value) throws -> Value {
        #if canImport(ObjectiveC)
            try autoreleasepool(invoking: work)
        #else
            try work()
        #endif
    }
}
