extension Manifest {
    /// Checks what a run relies on, so that it need not ask again.
    ///
    /// - Throws: `KDError.wrongBackend`, `.missingComponent`, or `.damagedManifest` with the place
    ///   of the first value that cannot be.
    public func check() throws {
        guard backend == "coreml" else { throw KDError.wrongBackend(backend) }
        try checkPaths()
        try checkNumbers()
        for (index, component) in components.enumerated() {
            try component.check(place: "components[\(index)]")
        }
        for role in [.unet, .vaeDecoder] + text.map(\.role) where component(role) == nil {
            throw KDError.missingComponent(role)
        }
        try require(!text.isEmpty, "text", "there is no text encoder")
        try require(
            (component(.controlnet) == nil) == (control == nil), "control",
            "the bundle has only one of a ControlNet and its record")
        try require(
            family == .sd || text.contains { $0.pooledOutput != nil }, "text",
            "no text encoder has a pooled output, which SDXL needs")
        try require(
            samplers.contains { $0.name == defaults.scheduler }, "defaults.scheduler",
            "the bundle has no such sampler")
    }

    private func checkNumbers() throws {
        let least = [
            ("latents.channels", latents.channels), ("latents.factor", latents.factor),
            ("shapes.multiple", shapes.multiple), ("defaults.steps", defaults.steps),
            ("defaults.height", defaults.height), ("defaults.width", defaults.width),
            ("guidance_embedding", (guidanceEmbedding ?? 4) - 3),
        ]
        for (place, value) in least {
            try require(value >= 1, place, "it is too small")
        }
        for (place, value) in zip(["height", "width"], [shapes.height, shapes.width]) {
            try require(value.map { $0 >= 1 } ?? true, "shapes.\(place)", "it is below 1")
        }
        for size in shapes.sizes {
            try require(size.width >= 1 && size.height >= 1, "shapes.sizes", "one is below 1")
        }
        try require(latents.scalingFactor > 0, "latents.scaling_factor", "it is not above 0")
        for (index, encoding) in text.enumerated() {
            try require(encoding.maxLength >= 2, "text[\(index)].max_length", "it is below 2")
        }
    }

    /// A bundle may come from anywhere: none of its paths may lead out of its folder.
    private func checkPaths() throws {
        let paths =
            components.flatMap { [$0.file] + $0.chunks } + text.map(\.tokenizer)
            + samplers.map(\.file) + samplers.compactMap(\.image) + files.map(\.path)
        for path in paths {
            let parts = path.split(separator: "/", omittingEmptySubsequences: false)
            let stays = !path.isEmpty && !path.hasPrefix("/") && !path.contains("\\")
            try require(
                stays && !parts.contains(".."), "files", "the path '\(path)' leaves the bundle")
        }
    }
}

extension Component {
    /// Checks that every input and output has a meaning and the inputs a number of rows.
    func check(place: String) throws {
        try require(!inputs.isEmpty, "\(place).inputs", "there are none")
        try require(!outputs.isEmpty, "\(place).outputs", "there are none")
        try require(residualScale != 0, "\(place).residual_scale", "it is 0")
        for spec in inputs + outputs {
            try require(ports[spec.name] != nil, "\(place).ports", "'\(spec.name)' is missing")
        }
        for (index, spec) in inputs.enumerated() {
            try require(
                spec.shape.first?.size.map { $0 >= 1 } ?? false,
                "\(place).inputs[\(index)].shape", "the number of rows is not fixed")
        }
    }
}

private func require(_ holds: Bool, _ place: String, _ reason: String) throws {
    guard holds else { throw KDError.damagedManifest(place: place, reason: reason) }
}
