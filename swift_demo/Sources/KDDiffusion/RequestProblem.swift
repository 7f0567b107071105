import Foundation

/// Why a bundle cannot draw what a request asks for.
///
/// A number of steps that the bundle has no table for is a `SamplerError` of `KDNumerics`.
public enum RequestProblem: Error, Sendable, Equatable {
    /// There is no prompt.
    case noPrompt
    /// Neither one negative prompt nor one for each prompt.
    case negativePrompts(given: Int, prompts: Int)
    /// A number that must be at least 1 is not; `field` is the property's name.
    case tooSmall(field: String, value: Int)
    /// Width or height is more than a run draws; `field` is the property's name.
    case tooLarge(field: String, value: Int)
    /// A number is NaN or infinite; `field` is the property's name.
    case notFinite(field: String)
    /// More pictures than one run draws.
    case tooManyImages(Int)
    /// The bundle has no scheduler of this name.
    case scheduler(String, allowed: [String])
    /// The bundle draws other sizes only.
    case size(PixelSize, allowed: [PixelSize])
    /// Width and height must be multiples of a number of pixels.
    case sizeMultiple(PixelSize, multiple: Int)
    /// The U-Net takes another number of rows than the images need.
    case rows(needed: Int, taken: Int)
    /// The latents have another shape than those of the picture.
    case latents(shape: [Int], expected: [Int])
    /// The latents hold NaN or infinite values.
    case latentsNotFinite
    /// There are both latents and a picture to start from.
    case latentsAndPicture
    /// The bundle has no VAE encoder, so it cannot start from a picture.
    case noEncoder
    /// The scheduler cannot start from a picture; `allowed` are those that can.
    case noPictureStart(scheduler: String, allowed: [String])
    /// There is a strength, but no picture to start from.
    case strengthWithoutPicture
    /// The strength is not above 0 and at most 1.
    case strength(Double)
    /// The strength leaves none of the steps.
    case noStepLeft(strength: Double, steps: Int)
    /// The picture to start from is smaller than the smallest that the bundle draws.
    case pictureTooSmall(PixelSize, multiple: Int)
    /// The bundle has no ControlNet, but there is a control picture or scale.
    case noControlNet
    /// The bundle's ControlNet needs a picture.
    case controlMissing
    /// Neither one control picture nor one for each prompt.
    case controlPictures(given: Int, prompts: Int)
    /// Previews after every so many steps: less than 1.
    case previewInterval(Int)
}

extension RequestProblem: LocalizedError {
    /// One sentence: what is wrong and what to do.
    public var errorDescription: String? {
        switch self {
        case .noPrompt: "There is no prompt; give at least one."
        case .negativePrompts(let given, let prompts):
            "There are \(prompts) prompts but \(given) negative prompts; give one for all, or one "
                + "for each."
        case .tooSmall(let field, let value):
            "'\(field)' must be a whole number of at least 1, not \(value); give such a number."
        case .tooLarge(let field, let value):
            "'\(field)' must be at most \(Planner.longestSide) pixels, not \(value); give such a "
                + "number."
        case .notFinite(let field): "'\(field)' must be a finite number; give such a number."
        case .tooManyImages(let images):
            "One run draws at most \(Planner.mostImages) pictures, not \(images); draw them in "
                + "several runs."
        case .scheduler(let name, let allowed):
            "The bundle holds no scheduler '\(name)'; choose \(listing(allowed, joint: "or"))."
        case .size(let size, let allowed):
            "The bundle does not draw \(size) pixels (width x height); choose "
                + "\(listing(allowed.map(\.description), joint: "or"))."
        case .sizeMultiple(let size, let multiple):
            "Width and height must be multiples of \(multiple) pixels, not \(size); choose such a "
                + "size."
        case .rows(let needed, let taken):
            "The bundle's U-Net takes \(taken) rows, but the images need \(needed) (two each with "
                + "guidance, else one); change the number of images or the guidance."
        case .latents(let shape, let expected):
            "The latents must have the shape \(expected) (images, channels, latent height, latent "
                + "width), not \(shape)."
        case .latentsNotFinite: "The latents must be finite numbers."
        case .latentsAndPicture:
            "A run starts from a picture or from latents; leave one of them out."
        case .noEncoder:
            "The bundle has no VAE encoder, so it cannot start from a picture; export the model "
                + "again with --with-encoder."
        case .noPictureStart(let scheduler, let allowed):
            "The scheduler '\(scheduler)' of this bundle cannot start from a picture; "
                + (allowed.isEmpty
                    ? "export the model again with --with-encoder."
                    : "choose \(listing(allowed, joint: "or")).")
        case .strengthWithoutPicture:
            "A strength needs a picture to start from; give one with it."
        case .strength(let value): "The strength must be above 0 and at most 1, not \(value)."
        case .noStepLeft(let strength, let steps):
            "A strength of \(strength) leaves none of \(steps) steps; choose a larger strength or "
                + "more steps."
        case .pictureTooSmall(let size, let multiple):
            "The picture of \(size) pixels is smaller than the bundle can draw; give a width and "
                + "height in multiples of \(multiple)."
        case .noControlNet:
            "The bundle has no ControlNet, so it takes neither a control picture nor a control "
                + "scale; leave them out."
        case .controlMissing: "The bundle's ControlNet needs a picture to draw after; give one."
        case .controlPictures(let given, let prompts):
            "There are \(prompts) prompts but \(given) control pictures; give one for all, or one "
                + "for each."
        case .previewInterval(let steps):
            "Previews come after every so many steps, at least 1, not \(steps)."
        }
    }
}
