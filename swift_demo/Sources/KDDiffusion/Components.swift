/// The components of a bundle on one engine, kept loaded or loaded only while they are used.
struct Components: Sendable {
    private let models: [ComponentModel]
    private let reducedMemory: Bool

    /// Makes the runners of all components; nothing is loaded yet.
    init(bundle: ModelBundle, engine: any ModelEngine, options: PipelineOptions) throws {
        models = try bundle.manifest.components.map {
            try ComponentModel($0, bundle: bundle, engine: engine)
        }
        reducedMemory = options.reducedMemory
    }

    /// The manifest's record of a component.
    func record(_ role: Component.Role) throws -> Component { try model(role).component }

    /// Loads and frees one component after the other.
    func prewarm() async throws {
        for model in models {
            try await model.load()
            await model.unload()
        }
    }

    /// Loads what draws from a prompt, unless components are loaded only while used.
    func load() async throws {
        guard !reducedMemory else { return }
        do {
            // The encoder takes no part in drawing from a prompt.
            for model in models where model.component.role != .vaeEncoder {
                try await model.load()
            }
        } catch {
            await unload()
            throw error
        }
    }

    /// Frees all components.
    func unload() async {
        for model in models { await model.unload() }
    }

    /// Gives the loaded component; where memory is reduced, frees it afterwards or after an error.
    func use<Result: Sendable>(
        _ role: Component.Role, _ body: (ComponentModel) async throws -> Result
    ) async throws -> Result {
        let model = try model(role)
        try await model.load()
        do {
            let result = try await body(model)
            if reducedMemory { await model.unload() }
            return result
        } catch {
            if reducedMemory { await model.unload() }
            throw error
        }
    }

    private func model(_ role: Component.Role) throws -> ComponentModel {
        guard let model = models.first(where: { $0.component.role == role }) else {
            throw KDError.missingComponent(role)
        }
        return model
    }
}
