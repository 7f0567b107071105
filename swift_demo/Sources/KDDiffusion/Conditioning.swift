import KDNumerics

/// What the U-Net is conditioned on: one row per row of the U-Net; with guidance first all
/// negative rows, then all positive ones.
struct Conditioning: Sendable {
    /// Tensors by the names that they have as inputs of the U-Net.
    let tensors: [String: Tensor]
}

extension Drawing {
    /// Encodes the prompts, as diffusers' pipelines do it.
    func encodeTexts() async throws -> Conditioning {
        var (hidden, pooled) = try await encodedTexts()
        if plan.isGuided && plan.negatives == nil {
            hidden = try hidden.afterZeros()
            pooled = try pooled?.afterZeros()
        }
        // Row after row, so that the images of one prompt lie together.
        hidden = hidden.repeatingRows(plan.imagesPerPrompt)
        var tensors = [PortName.hidden: hidden]
        if let size = plan.guidanceSize {
            let embedding = Tensor(
                shape: [1, size], values: guidanceEmbedding(plan.guidance, size: size))
            tensors[PortName.guidance] = embedding.repeatingRows(hidden.rows)
        }
        if manifest.family == .sdxl, let pooled {
            tensors[PortName.pooled] = pooled.repeatingRows(plan.imagesPerPrompt)
            let (width, height) = (Float(plan.size.width), Float(plan.size.height))
            // Original size, crop offset and target size.
            let sizes = Tensor(shape: [1, 6], values: [height, width, 0, 0, height, width])
            tensors[PortName.timeIDs] = sizes.repeatingRows(hidden.rows)
        }
        return Conditioning(tensors: tensors)
    }

    /// Hidden states of all encoders side by side, and the last pooled output there is.
    private func encodedTexts() async throws -> (hidden: Tensor, pooled: Tensor?) {
        let negatives = plan.negatives ?? []
        let texts = negatives + plan.prompts
        var (hidden, pooled): ([Tensor], Tensor?) = ([], nil)
        for tokenizer in tokenizers {
            let encoding = tokenizer.encoding
            let negative = encoding.negativeOutput ?? encoding.hiddenOutput
            let named = [encoding.hiddenOutput, negative, encoding.pooledOutput]
            let results = try await encode(
                Feed(tensors: [PortName.ids: tokenizer.ids(of: texts)]), encoding.role,
                outputs: Array(Set(named.compactMap { $0 })))
            guard let ofPrompts = results[encoding.hiddenOutput],
                let ofNegatives = results[negative]
            else { throw KDError.missingOutput(negative, file: encoding.role.rawValue) }
            let rows = [
                try ofNegatives.rows(0..<negatives.count),
                try ofPrompts.rows(negatives.count..<texts.count),
            ]
            hidden.append(try Tensor.concatenated(rows))
            if let name = encoding.pooledOutput { pooled = results[name] }
        }
        return (try Tensor.concatenated(hidden, axis: -1), pooled)
    }

    private func encode(
        _ feed: Feed, _ role: Component.Role, outputs: [String]
    ) async throws -> [String: Tensor] {
        let results = try await components.use(role) { try await $0.run(feed, outputs: outputs) }
        for tensor in results.values { try tensor.requireFinite(role) }
        return results
    }
}

extension Tensor {
    /// The rows after as many of zeros.
    fileprivate func afterZeros() throws -> Tensor {
        try Tensor.concatenated([Tensor(repeating: 0, shape: shape), self])
    }

    /// Throws `KDError.notFinite` where there is NaN or infinity.
    ///
    /// - Parameters:
    ///   - role: What gave the tensor.
    ///   - call: The call of the U-Net, from 1, or nil.
    func requireFinite(_ role: Component.Role, call: Int? = nil) throws {
        guard isFinite else { throw KDError.notFinite(role, call: call) }
    }
}
