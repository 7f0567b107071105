import KDNumerics

/// The ControlNet of one run: from what the U-Net is fed to what else it is fed.
struct ControlNet: Sendable {
    private let model: ComponentModel
    private let pictures: Tensor
    private let scale: Float
    private let outputs: [String]

    /// Prepares the pictures; `model` is loaded and stays so while this is used.
    init(_ model: ComponentModel, plan: Plan, control: Control) throws {
        self.model = model
        scale = Float(control.scale)
        outputs = model.component.outputs.compactMap { model.component.ports[$0.name] }
        let rows = try control.pictures.map { picture in
            let upright = control.invert ? picture.inverted() : picture
            return try upright.resized(width: plan.size.width, height: plan.size.height).unit()
        }
        // Row after row, as the text embeddings: the images of one prompt lie together.
        let images = try Tensor.concatenated(rows).repeatingRows(plan.images / rows.count)
        pictures = plan.isGuided ? try images.copies(2) : images
    }

    /// The residuals, by the names that they have as inputs of the U-Net.
    ///
    /// - Parameters:
    ///   - feed: The other inputs of the U-Net.
    ///   - call: The call of the U-Net, from 1.
    func residuals(_ feed: Feed, call: Int) async throws -> [String: Tensor] {
        var fed = feed
        fed.tensors[PortName.controlPicture] = pictures
        fed.numbers[PortName.conditioningScale] = scale
        let residuals = try await model.run(fed, outputs: outputs)
        for tensor in residuals.values { try tensor.requireFinite(.controlnet, call: call) }
        return residuals
    }
}
