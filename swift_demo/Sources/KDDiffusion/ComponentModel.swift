import KDNumerics

/// A component in packages with a fixed number of rows, behind the names that the loop has.
struct ComponentModel: Sendable {
    let component: Component
    private let runners: [any ModelRunner]

    /// Makes the runners; nothing is loaded yet.
    init(_ component: Component, bundle: ModelBundle, engine: any ModelEngine) throws {
        self.component = component
        runners = try component.files.map {
            try engine.runner(for: bundle.url($0), component: component)
        }
    }

    /// Loads the packages and compares them with the manifest; frees them where that fails.
    func load() async throws {
        // Before anything is freed: what is loaded already stays so.
        try Task.checkCancellation()
        do {
            for runner in runners {
                try await runner.load()
                try Task.checkCancellation()
            }
            try await requireRecorded()
        } catch {
            await unload()
            throw error
        }
    }

    /// Frees the packages.
    func unload() async {
        for runner in runners { await runner.unload() }
    }

    /// Runs the packages as often as it takes for all rows.
    ///
    /// - Parameters:
    ///   - feed: Inputs by their names in the loop, any number of rows.
    ///   - outputs: Outputs wanted, by their names in the loop.
    /// - Returns: The outputs, a row for each row of the feed.
    /// - Throws: What the engine throws, `KDError`, and `CancellationError` after the call during
    ///   which the task was cancelled.
    func run(_ feed: Feed, outputs: [String]) async throws -> [String: Tensor] {
        // `Manifest.check` has made sure that there is one.
        let fixed = component.inputs[0].shape[0].size ?? 1
        var pieces: [[String: Tensor]] = []
        for start in stride(from: 0, to: feed.rows, by: fixed) {
            pieces.append(try await call(try feed.rows(from: start, count: fixed)))
        }
        let scale = factor(of: feed)
        var results: [String: Tensor] = [:]
        for name in outputs {
            let found = pieces.compactMap { $0[name] }
            guard !found.isEmpty else {
                throw KDError.missingOutput(name, file: component.file)
            }
            var tensor = try Tensor.concatenated(found).rows(0..<feed.rows)
            if component.isTinyEncoding(name) { tensor = try tensor.split(2, axis: 1)[0] }
            results[name] = scale == 1 ? tensor : scale * tensor
        }
        return results
    }

    /// Runs the packages once, one after the other; the results have the names of the loop.
    private func call(_ rows: Feed) async throws -> [String: Tensor] {
        var values: [String: Tensor] = [:]
        for spec in component.inputs {
            let meaning = component.ports[spec.name] ?? spec.name
            let tensor = try rows.input(spec, meaning: meaning, file: component.file)
            try requireShape(tensor, spec)
            values[spec.name] = tensor
        }
        for runner in runners {
            let taken = Set(try await runner.ports().inputs)
            let given = try await runner.run(values.filter { taken.contains($0.key) })
            try Task.checkCancellation()
            values.merge(given) { _, new in new }
        }
        var results: [String: Tensor] = [:]
        for spec in component.outputs {
            guard let tensor = values[spec.name] else {
                throw KDError.missingOutput(spec.name, file: component.file)
            }
            try requireShape(tensor, spec)
            results[component.ports[spec.name] ?? spec.name] = tensor
        }
        return results
    }

    /// What the results are multiplied by: the packages have no input for the ControlNet's scale.
    private func factor(of feed: Feed) -> Float {
        guard let wanted = feed.numbers[PortName.conditioningScale] else {
            return Float(1 / component.residualScale)
        }
        return wanted / Float(component.residualScale)
    }

    private func requireShape(_ tensor: Tensor, _ spec: TensorSpec) throws {
        guard spec.fits(tensor.shape) else {
            throw KDError.wrongShape(
                spec.name, file: component.file,
                expected: "[\(spec.shape.map(\.description).joined(separator: ", "))]",
                found: tensor.shape)
        }
    }

    /// Holds the packages against the manifest; between chunks there may be anything.
    private func requireRecorded() async throws {
        var made: Set<String> = []
        var inputs: Set<String> = []
        var outputs: [String] = []
        for runner in runners {
            let ports = try await runner.ports()
            inputs.formUnion(ports.inputs.filter { !made.contains($0) })
            made.formUnion(ports.outputs)
            outputs = ports.outputs
        }
        let said = ModelPorts(
            inputs: component.inputs.map(\.name).sorted(),
            outputs: component.outputs.map(\.name).sorted())
        let found = ModelPorts(inputs: inputs.sorted(), outputs: outputs.sorted())
        guard said == found else {
            throw KDError.wrongPorts(file: component.file, expected: said, found: found)
        }
    }
}

extension Component {
    /// Whether an output has mean and variance for Apple's library, but the loop takes the mean.
    func isTinyEncoding(_ name: String) -> Bool {
        name == PortName.encodedLatent && ports["latent"] == name
    }
}

/// Names of the loop: those that the same tensors have in an ONNX bundle.
enum PortName {
    static let sample = "sample"
    static let timestep = "timestep"
    static let noisePrediction = "out_sample"
    static let ids = "input_ids"
    static let hidden = "encoder_hidden_states"
    static let pooled = "text_embeds"
    static let timeIDs = "time_ids"
    static let guidance = "timestep_cond"
    static let controlPicture = "controlnet_cond"
    static let conditioningScale = "conditioning_scale"
    static let latent = "latent_sample"
    static let encodedLatent = "latent_sample"
    static let encodedParameters = "latent_parameters"
}
