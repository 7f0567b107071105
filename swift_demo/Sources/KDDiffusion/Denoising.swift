import KDNumerics

extension Drawing {
    /// Walks through the sampler's table; a ControlNet runs before the U-Net at each call.
    ///
    /// All noise comes from one stream with the plan's seed: first what the initial latents of the
    /// whole batch need, where the plan brings none, then the fresh noises in the order of the
    /// calls.
    ///
    /// - Returns: The final latents, without the scale of the model's input.
    func denoise(
        _ unet: ComponentModel, _ controlnet: ControlNet?, conditioning: Conditioning,
        start: EncodedPicture?, report: @Sendable (GenerationEvent) -> Void
    ) async throws -> Tensor {
        var noise = TorchNoise(seed: plan.seed)
        let first = try firstLatents(&noise, start: start)
        var stepper = Stepper(table: schedule.table, initial: first)
        while !stepper.isDone {
            let (index, timestep) = (stepper.calls, try stepper.timestep)
            var feed = Feed(tensors: conditioning.tensors)
            let sample = try stepper.input()
            feed.tensors[PortName.sample] = plan.isGuided ? try sample.copies(2) : sample
            feed.numbers[PortName.timestep] = Float(timestep)
            if let controlnet {
                let residuals = try await controlnet.residuals(feed, call: index + 1)
                feed.tensors.merge(residuals) { _, new in new }
            }
            let output = try await predict(unet, feed, call: index + 1)
            try stepper.push(output, noise: &noise)
            let latents = try stepper.latent()
            let total = schedule.table.calls
            let preview = try await preview(of: latents, after: index + 1, of: total)
            report(
                .step(
                    StepReport(
                        index: index, total: total, timestep: timestep, latents: latents,
                        preview: preview)))
        }
        return try stepper.latent()
    }

    /// What the table weighs first: unit noise, or the first latents of image to image.
    private func firstLatents(
        _ noise: inout TorchNoise, start: EncodedPicture?
    ) throws -> Tensor {
        if let start { return try start.firstLatents(&noise, shape: plan.latentShape) }
        return plan.latents ?? noise.normal(plan.latentShape)
    }

    /// The output of the U-Net after guidance, a row for each image.
    private func predict(
        _ unet: ComponentModel, _ feed: Feed, call: Int
    ) async throws -> Tensor {
        let name = PortName.noisePrediction
        guard let output = try await unet.run(feed, outputs: [name])[name] else {
            throw KDError.missingOutput(name, file: unet.component.file)
        }
        try output.requireFinite(.unet, call: call)
        guard plan.isGuided else { return output }
        let halves = try output.split(2)
        return try halves[1].guided(by: Float(plan.guidance), from: halves[0])
    }

    /// The first picture as it is now, where one is due.
    ///
    /// Latents that are still far from a picture may overflow the decoder; then there is none yet.
    private func preview(
        of latents: Tensor, after calls: Int, of total: Int
    ) async throws -> Picture? {
        guard case .every(let interval) = plan.previews, calls % interval == 0, calls < total else {
            return nil
        }
        do {
            return try await decode(try latents.row(0)).first
        } catch KDError.notFinite {
            return nil
        }
    }
}
