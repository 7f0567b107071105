import KDNumerics

/// One run of a plan: prompts to conditioning, noise to latents, latents to pictures.
struct Drawing: Sendable {
    let plan: Plan
    let schedule: Schedule
    let manifest: Manifest
    let components: Components
    let tokenizers: [TextTokenizer]

    /// Draws.
    ///
    /// - Parameter report: Told of every step.
    /// - Returns: The pictures, those of one prompt together.
    func run(report: @Sendable (GenerationEvent) -> Void) async throws -> [Picture] {
        let conditioning = try await encodeTexts()
        let start = try await encodePicture()
        let latents = try await withControlNet { controlnet in
            try await components.use(.unet) { unet in
                try await denoise(
                    unet, controlnet, conditioning: conditioning, start: start, report: report)
            }
        }
        return try await decode(latents)
    }

    /// Decodes latents, one image at a time so that memory does not grow with them.
    func decode(_ latents: Tensor) async throws -> [Picture] {
        let space = manifest.latents
        let scaled = latents / Float(space.scalingFactor) + Float(space.shiftFactor)
        return try await components.use(.vaeDecoder) { decoder in
            var pictures: [Picture] = []
            for row in 0..<scaled.rows {
                let feed = Feed(tensors: [PortName.latent: try scaled.row(row)])
                let results = try await decoder.run(feed, outputs: [PortName.sample])
                guard let decoded = results[PortName.sample] else {
                    throw KDError.missingOutput(
                        PortName.sample, file: decoder.component.file)
                }
                try decoded.requireFinite(.vaeDecoder)
                pictures.append(try Picture(decoded: decoded, row: 0))
            }
            return pictures
        }
    }

    private func withControlNet(
        _ body: (ControlNet?) async throws -> Tensor
    ) async throws -> Tensor {
        guard let control = plan.control else { return try await body(nil) }
        return try await components.use(.controlnet) { model in
            try await body(try ControlNet(model, plan: plan, control: control))
        }
    }
}
