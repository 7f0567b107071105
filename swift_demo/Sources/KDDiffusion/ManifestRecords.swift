/// Where a model came from.
public struct SourceRecord: Sendable, Equatable, Decodable {
    /// What the user of kdexport named: a Hub id, a folder's name or `zoo:NAME`.
    public let model: String
    /// Whether the weights were made up and the pictures mean nothing.
    public let randomWeights: Bool
    /// Licence of the weights as the model's card names it, or nil where none is known.
    public let licence: String?

    enum CodingKeys: String, CodingKey {
        case model, licence
        case randomWeights = "random_weights"
    }
}

/// The latent space: decoded are `latent / scalingFactor + shiftFactor`.
public struct LatentSpace: Sendable, Equatable, Decodable {
    /// Latent channels.
    public let channels: Int
    /// Pixels per latent cell, on each side.
    public let factor: Int
    /// Multiplied onto the encoder's latents.
    public let scalingFactor: Double
    /// Subtracted before that.
    public let shiftFactor: Double

    enum CodingKeys: String, CodingKey {
        case channels, factor
        case scalingFactor = "scaling_factor"
        case shiftFactor = "shift_factor"
    }
}

/// What a run uses where the user says nothing.
public struct Defaults: Sendable, Equatable, Decodable {
    /// Denoising steps.
    public let steps: Int
    /// Guidance scale; at most 1 means one row of the U-Net per image.
    public let guidance: Double
    /// Height of the pictures in pixels.
    public let height: Int
    /// Width of the pictures in pixels.
    public let width: Int
    /// Negative prompt, or nil where the model has none.
    public let negativePrompt: String?
    /// Name of a sampler of the bundle.
    public let scheduler: String

    enum CodingKeys: String, CodingKey {
        case steps, guidance, height, width, scheduler
        case negativePrompt = "negative_prompt"
    }
}

/// How a picture steers a run, through the component `controlnet`.
public struct ControlRecord: Sendable, Equatable, Decodable {
    /// Default of the factor of the residuals.
    public let scale: Double
    /// Whether each 8-bit value of a picture is first subtracted from 255.
    public let invert: Bool
    /// Channels of `controlnet_cond`.
    public let channels: Int
}

/// How the packages were made.
public struct CoreMLRecord: Sendable, Equatable, Decodable {
    /// Oldest system that the packages load on, such as `iOS17`, with the macOS of the same year.
    public let target: String
    /// What the packages are meant to run on: `all`, `cpu-only`, `cpu-and-gpu` or
    /// `cpu-and-neural-engine`.
    public let computeUnits: String
    /// How attention is computed.
    public let attention: String
    /// Rows of the U-Net's batch.
    public let rows: Int

    enum CodingKeys: String, CodingKey {
        case target, attention, rows
        case computeUnits = "compute_units"
    }
}

/// A compiled sampler.
public struct SamplerRecord: Sendable, Equatable, Decodable {
    /// The name that a request gives.
    public let name: String
    /// Class name of the diffusers scheduler.
    public let scheduler: String
    /// The tables, relative to the bundle.
    public let file: String
    /// The step counts in it, ascending.
    public let steps: [Int]
    /// The tables for runs that start from a picture, relative to the bundle, or nil.
    public let image: String?
}

/// A file of the bundle.
public struct FileRecord: Sendable, Equatable, Decodable {
    /// Path relative to the bundle, with `/`.
    public let path: String
    /// SHA-256 of its content in hexadecimal digits.
    public let sha256: String
    /// Its size.
    public let bytes: Int
}

/// How prompts become inputs of the U-Net, for one text encoder.
public struct TextEncoding: Sendable, Equatable, Decodable {
    /// The component that encodes.
    public let role: Component.Role
    /// The tokenizer's file, relative to the bundle.
    public let tokenizer: String
    /// Tokens per prompt, the markers at both ends included.
    public let maxLength: Int
    /// Marker at the start.
    public let bosTokenID: Int
    /// Marker at the end.
    public let eosTokenID: Int
    /// Fills up to `maxLength`.
    public let padTokenID: Int
    /// Output that the U-Net's `encoder_hidden_states` is made of.
    public let hiddenOutput: String
    /// Output that SDXL's `text_embeds` is made of, or nil.
    public let pooledOutput: String?
    /// The same as `hiddenOutput` for negative prompts, or nil where it is the same output.
    public let negativeOutput: String?

    enum CodingKeys: String, CodingKey {
        case role, tokenizer
        case maxLength = "max_length"
        case bosTokenID = "bos_token_id"
        case eosTokenID = "eos_token_id"
        case padTokenID = "pad_token_id"
        case hiddenOutput = "hidden_output"
        case pooledOutput = "pooled_output"
        case negativeOutput = "negative_output"
    }
}
