/// Checks what a request says, whatever the bundle; calls `fail` for the first problem.
func check(_ request: Request, fail: (RequestProblem) throws -> Void) throws {
    let prompts = request.prompts.count
    if prompts == 0 { try fail(.noPrompt) }
    if let given = request.negativePrompts?.count, given != 1, given != prompts {
        try fail(.negativePrompts(given: given, prompts: prompts))
    }
    let counts = [
        ("steps", request.steps), ("width", request.width), ("height", request.height),
        ("imagesPerPrompt", request.imagesPerPrompt),
    ]
    for case (let field, let value?) in counts where value < 1 {
        try fail(.tooSmall(field: field, value: value))
    }
    let sides = [("width", request.width), ("height", request.height)]
    for case (let field, let value?) in sides where value > Planner.longestSide {
        try fail(.tooLarge(field: field, value: value))
    }
    let (images, overflows) = prompts.multipliedReportingOverflow(by: request.imagesPerPrompt)
    if overflows || images > Planner.mostImages {
        try fail(.tooManyImages(overflows ? Int.max : images))
    }
    let scales = [("guidance", request.guidance), ("controlScale", request.controlScale)]
    for case (let field, let value?) in scales where !value.isFinite {
        try fail(.notFinite(field: field))
    }
    if case .every(let steps) = request.previews, steps < 1 { try fail(.previewInterval(steps)) }
    if let strength = request.strength {
        if request.initial == nil { try fail(.strengthWithoutPicture) }
        if !(strength > 0 && strength <= 1) { try fail(.strength(strength)) }
    }
    if request.initial != nil && request.latents != nil { try fail(.latentsAndPicture) }
}
