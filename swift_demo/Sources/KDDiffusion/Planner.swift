import KDNumerics

/// From what a user asks for to what is drawn, every blank filled in from the bundle.
struct Planner: Sendable {
    /// Pictures of one run; more would take the memory of their latents and noise all at once.
    static let mostImages = 1000

    /// Pixels of a side of a picture; far beyond what models draw, but no memory holds more.
    static let longestSide = 16384

    let tokenizers: [TextTokenizer]
    private let manifest: Manifest

    /// Reads the tokenizers; throws `TokenizerError` where one cannot be read.
    init(bundle: ModelBundle) throws {
        manifest = bundle.manifest
        tokenizers = try bundle.manifest.text.map { try TextTokenizer($0, bundle: bundle) }
    }

    /// Fills in a request's blanks; throws `KDError.request` where the bundle cannot draw it.
    ///
    /// The number of steps is checked by the sampler.
    func plan(_ request: Request) throws -> Plan {
        try check(request) { throw KDError.request($0) }
        let defaults = manifest.defaults
        let guidance = request.guidance ?? defaults.guidance
        let guided = Plan.isGuided(guidance, guidanceSize: manifest.guidanceEmbedding)
        let size = try manifest.size(for: request)
        let images = request.prompts.count * request.imagesPerPrompt
        try requireRows(guided ? images * 2 : images)
        let shape = [
            images, manifest.latents.channels, size.height / manifest.latents.factor,
            size.width / manifest.latents.factor,
        ]
        try checkLatents(request.latents, shape: shape)
        let steps = request.steps ?? defaults.steps
        let negatives = guided ? negatives(for: request) : nil
        return Plan(
            prompts: request.prompts, negatives: negatives, steps: steps, guidance: guidance,
            seed: request.seed ?? UInt64(UInt32.random(in: .min ... .max)), size: size,
            imagesPerPrompt: request.imagesPerPrompt,
            scheduler: request.scheduler ?? defaults.scheduler, latentShape: shape,
            latents: request.latents,
            initial: try request.initial?.resized(width: size.width, height: size.height),
            strength: try strength(for: request, steps: steps),
            guidanceSize: manifest.guidanceEmbedding, control: try control(for: request),
            previews: request.previews, truncations: truncations(negatives, request.prompts))
    }

    /// As diffusers: zero embeddings if the pipeline wants them, else the empty text.
    private func negatives(for request: Request) -> [String]? {
        let count = request.prompts.count
        if let given = request.negativePrompts {
            return given.count == 1 ? Array(repeating: given[0], count: count) : given
        }
        if manifest.defaults.negativePrompt == nil && manifest.zeroNegative { return nil }
        return Array(repeating: manifest.defaults.negativePrompt ?? "", count: count)
    }

    private func requireRows(_ needed: Int) throws {
        if let taken = manifest.shapes.batch, taken != needed {
            throw KDError.request(.rows(needed: needed, taken: taken))
        }
    }

    private func checkLatents(_ latents: Tensor?, shape: [Int]) throws {
        guard let latents else { return }
        guard latents.shape == shape else {
            throw KDError.request(.latents(shape: latents.shape, expected: shape))
        }
        guard latents.isFinite else { throw KDError.request(.latentsNotFinite) }
    }

    private func strength(for request: Request, steps: Int) throws -> Double {
        guard request.initial != nil else { return 1 }
        guard manifest.canStartFromPicture else { throw KDError.request(.noEncoder) }
        let strength = request.strength ?? manifest.family.defaultStrength
        guard Plan.keptSteps(steps, strength: strength) >= 1 else {
            throw KDError.request(.noStepLeft(strength: strength, steps: steps))
        }
        return strength
    }

    private func control(for request: Request) throws -> Control? {
        guard let record = manifest.control else {
            guard request.control.isEmpty, request.controlScale == nil else {
                throw KDError.request(.noControlNet)
            }
            return nil
        }
        let (given, prompts) = (request.control.count, request.prompts.count)
        guard given > 0 else { throw KDError.request(.controlMissing) }
        guard given == 1 || given == prompts else {
            throw KDError.request(.controlPictures(given: given, prompts: prompts))
        }
        return Control(
            pictures: request.control, scale: request.controlScale ?? record.scale,
            invert: record.invert)
    }

    /// What each text encoder cuts off, named once where several cut the same.
    private func truncations(_ negatives: [String]?, _ prompts: [String]) -> [Truncation] {
        var found: [Truncation] = []
        for text in (negatives ?? []) + prompts {
            for tokenizer in tokenizers {
                let cut = Truncation(text: text, removed: tokenizer.encode(text).removed)
                if !cut.removed.isEmpty && !found.contains(cut) { found.append(cut) }
            }
        }
        return found
    }
}
